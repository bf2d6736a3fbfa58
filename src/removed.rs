//! What is left of tasks that were removed: a line for each, so that no id is used twice and who asks is told.
//!
//! Owns `removed/<date>`, a file for each day of ids. All lines are of one length and sorted, so that one is found by
//! looking at a few places, however many there are. A file is replaced whole, before anything of its tasks is removed.

use std::collections::BTreeMap;

use crate::id::TaskId;
use crate::layout::Layout;
use crate::removal::{ID_BYTES, LINE_BYTES, Removed, line, parse};
use crate::store::{self, StoreError};
use crate::time::Date;

/// What is known of a task that was removed.
pub(crate) fn look(layout: &Layout, task: TaskId) -> Result<Option<Removed>, StoreError> {
    let path = layout.removed_of(&task.date());
    let Some(bytes) = store::bytes_of(&path) else { return Ok(None) };
    let file = match store::open_dropped(&path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let wanted = task.to_string();
    let (mut from, mut to) = (0, bytes / LINE_BYTES as u64);
    while from < to {
        let middle = from + (to - from) / 2;
        let part = store::read_part(&file, &path, middle * LINE_BYTES as u64, LINE_BYTES)?;
        match part.get(..ID_BYTES).map(|id| id.cmp(wanted.as_bytes())) {
            Some(std::cmp::Ordering::Equal) => return Ok(parse(&part).map(|(_, removed)| removed)),
            Some(std::cmp::Ordering::Less) => from = middle + 1,
            Some(std::cmp::Ordering::Greater) | None => to = middle,
        }
    }
    Ok(None)
}

/// All removed tasks of a day.
pub(crate) fn on(layout: &Layout, date: &Date) -> Result<BTreeMap<TaskId, Removed>, StoreError> {
    let bytes = store::read_if_there(&layout.removed_of(date))?.unwrap_or_default();
    Ok(bytes.chunks(LINE_BYTES).filter_map(parse).collect())
}

/// Notes tasks of one day as removed, durably.
pub(crate) fn add(layout: &Layout, date: &Date, new: &BTreeMap<TaskId, Removed>) -> Result<(), StoreError> {
    let mut all = on(layout, date)?;
    if new.keys().all(|task| all.contains_key(task)) {
        return Ok(());
    }
    all.extend(new.iter().map(|(task, removed)| (*task, removed.clone())));
    store::make_lasting_dir_below(layout.root(), &layout.removed())?;
    let text: String = all.iter().map(|(task, removed)| line(*task, removed)).collect();
    store::replace(layout, &layout.removed_of(date), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    #[test]
    fn each_of_many_is_found_and_no_other_however_they_were_added() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.folders().iter().for_each(|folder| store::make_dir(folder).unwrap());
        let id = |number: u32| -> TaskId {
            format!("01890a5d-ac96-774b-bcce-b302099a{number:04x}").parse().unwrap()
        };
        let removed = Removed::new("done", &Spec::default());
        assert_eq!(look(&layout, id(1)).unwrap(), None);
        for part in 0..3 {
            let new = (part..60).step_by(3).map(|number| (id(number * 2), removed.clone())).collect();
            add(&layout, &id(0).date(), &new).unwrap();
            add(&layout, &id(0).date(), &new).unwrap();
        }
        for number in 0..130 {
            let found = look(&layout, id(number)).unwrap().is_some();
            assert_eq!(found, number % 2 == 0 && number < 120, "{number}");
        }
    }
}
