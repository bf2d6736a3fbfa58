//! Scopes: the tenant and the project that a command, or whoever reads, is confined to. Pure.
//!
//! A task outside of it is as if it were not there: who is told that it may not be touched has been told that it exists.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::id::Name;
use crate::json;
use crate::refusal::Refusal;
use crate::spec::Spec;

/// The keys of a scope in a command.
const KEYS: [&str; 2] = ["tenant", "project"];

/// Which tasks there are for somebody; without tenant and project, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Scope {
    tenant: Option<Name>,
    project: Option<Name>,
}

impl Scope {
    pub(crate) fn new(tenant: Option<Name>, project: Option<Name>) -> Scope {
        Scope { tenant, project }
    }

    /// Takes the scope out of a command that is no submit: in that it is part of the spec.
    pub(crate) fn take(map: &mut Map<String, Value>) -> Result<Scope, Refusal> {
        json::typed(KEYS.into_iter().filter_map(|key| map.remove_entry(key)).collect())
    }

    /// Puts the scope into a command that says none itself.
    pub(crate) fn put_into(&self, command: &mut Value) {
        for (key, name) in KEYS.into_iter().zip([&self.tenant, &self.project]) {
            if let Some(name) = name
                && command[key].is_null()
            {
                command[key] = name.as_str().into();
            }
        }
    }

    /// Whether it is the whole spool.
    pub(crate) fn is_whole(&self) -> bool {
        self.tenant.is_none() && self.project.is_none()
    }

    /// Whether a task with this spec is in it.
    pub(crate) fn has(&self, spec: &Spec) -> bool {
        let fits = |own: &Option<Name>, theirs: &Option<Name>| own.is_none() || own == theirs;
        fits(&self.tenant, &spec.tenant) && fits(&self.project, &spec.project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<Name> {
        text.parse().ok()
    }

    #[test]
    fn a_scope_has_what_bears_its_names_and_the_whole_spool_has_all() {
        let scopes = [("", ""), ("a", ""), ("", "p"), ("a", "p")].map(|(a, p)| Scope::new(name(a), name(p)));
        for (tenant, project, expected) in [
            ("", "", [true, false, false, false]),
            ("a", "", [true, true, false, false]),
            ("b", "p", [true, false, true, false]),
            ("a", "p", [true, true, true, true]),
            ("a", "q", [true, true, false, false]),
        ] {
            let spec = Spec { tenant: name(tenant), project: name(project), ..Spec::default() };
            assert_eq!(scopes.clone().map(|scope| scope.has(&spec)), expected, "{tenant} {project}");
        }
        assert_eq!(scopes.map(|scope| scope.is_whole()), [true, false, false, false]);
    }

    #[test]
    fn a_command_says_its_scope_and_gets_one_where_it_says_none() {
        let mut map = json::parse_object(br#"{"type":"hold","target":"x","tenant":"a"}"#).unwrap();
        assert_eq!(Scope::take(&mut map).unwrap(), Scope::new(name("a"), None));
        assert_eq!(map.len(), 2);
        let mut command = serde_json::json!({"type": "hold", "tenant": "b"});
        Scope::new(name("a"), name("p")).put_into(&mut command);
        assert_eq!((&command["tenant"], &command["project"]), (&"b".into(), &"p".into()));
        let mut bad = json::parse_object(br#"{"tenant":"../x"}"#).unwrap();
        assert_eq!(Scope::take(&mut bad).unwrap_err().path.as_deref(), Some("$.tenant"));
    }
}
