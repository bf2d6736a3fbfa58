//! Does what mends a finding. Nothing is lost by it: originals are kept below `.local/mended/<id>/`, at their own paths.

use std::path::{Path, PathBuf};

use crate::audit::{Finding, Kind, Mend};
use crate::clock;
use crate::id::RunId;
use crate::layout::Layout;
use crate::lock::{self, Lock};
use crate::receipt;
use crate::store::{self, StoreError};

use super::Repair;

/// A repair under way.
pub(super) struct Mending {
    layout: Layout,
    /// What a daemon holds; `None` when one runs.
    spool_lock: Option<Lock>,
    aside: PathBuf,
    repair: Repair,
}

impl Mending {
    pub(super) fn new(layout: Layout, spool_lock: Option<Lock>) -> Mending {
        let aside = layout.mended(clock::new_id());
        Mending {
            layout,
            spool_lock,
            aside,
            repair: Repair { mended: Vec::new(), failed: Vec::new(), aside: None },
        }
    }

    /// Whether no daemon runs, nor can.
    pub(super) fn is_alone(&self) -> bool {
        self.spool_lock.is_some()
    }

    /// Mends a finding, if we may; tells whether something was changed.
    pub(super) fn mend(&mut self, finding: Finding) -> bool {
        match self.try_mend(&finding) {
            Ok(true) => {
                self.repair.mended.push(finding);
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.repair.failed.push(error);
                false
            }
        }
    }

    pub(super) fn end(self) -> Repair {
        self.repair
    }

    fn try_mend(&mut self, finding: &Finding) -> Result<bool, StoreError> {
        let path = self.layout.root().join(&finding.path);
        match &finding.mend {
            Mend::Daemon | Mend::ByHand(_) => Ok(false),
            Mend::DrawInRun(run, bytes) => self.under_lock_of(*run, |mending| mending.draw(&path, bytes)),
            Mend::RemoveInRun(run) => self.under_lock_of(*run, |mending| mending.remove(&path)),
            Mend::CutInRun(run, bytes) => self.under_lock_of(*run, |mending| mending.cut(&path, *bytes)),
            // The rest is the daemon's, if there is one.
            _ if !self.is_alone() => Ok(false),
            Mend::Draw(bytes) => self.draw(&path, bytes),
            Mend::Remove => self.remove(&path),
            Mend::Cut(bytes) => self.cut(&path, *bytes),
            Mend::MakeFolder => store::make_lasting_dir(&path).map(|()| true),
            Mend::Move(to) => self.put(&path, &self.layout.root().join(to)),
            Mend::Answer(line) => {
                let is_receipt = matches!(finding.kind, Kind::ReceiptDiffers | Kind::ReceiptUnreadable);
                if is_receipt {
                    self.remove(&path)?;
                }
                for drawn in receipt::answer(&self.layout, line)? {
                    store::sync_file(&drawn)?;
                    store::sync_parent(&drawn)?;
                }
                Ok(true)
            }
        }
    }

    /// Changes what lies in a run's folder, unless somebody lives the run.
    fn under_lock_of(
        &mut self,
        run: RunId,
        change: impl FnOnce(&mut Mending) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        match lock::try_exclusive(&self.layout.run(run).lock())? {
            Some(_lock) => change(self),
            None => Ok(false),
        }
    }

    fn draw(&mut self, path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
        self.keep(path)?;
        store::make_lasting_dir(path.parent().unwrap_or(path))?;
        store::replace(&self.layout, path, bytes)?;
        Ok(true)
    }

    fn cut(&mut self, path: &Path, bytes: u64) -> Result<bool, StoreError> {
        self.keep(path)?;
        store::truncate(path, bytes)?;
        Ok(true)
    }

    fn put(&self, path: &Path, to: &Path) -> Result<bool, StoreError> {
        if store::exists(to) {
            return Ok(false);
        }
        store::make_lasting_dir(to.parent().unwrap_or(to))?;
        store::rename(path, to)?;
        store::sync_parent(to)?;
        store::sync_parent(path)?;
        Ok(true)
    }

    fn remove(&mut self, path: &Path) -> Result<bool, StoreError> {
        let kept = self.kept(path);
        self.put(path, &kept)
    }

    /// Keeps a copy of what is about to be changed.
    fn keep(&mut self, path: &Path) -> Result<(), StoreError> {
        if store::exists(path) {
            let kept = self.kept(path);
            store::make_lasting_dir(kept.parent().unwrap_or(&kept))?;
            store::copy_with_time(path, &kept)?;
            store::sync_file(&kept)?;
            store::sync_parent(&kept)?;
        }
        Ok(())
    }

    /// Where the original of a file is kept.
    fn kept(&mut self, path: &Path) -> PathBuf {
        self.repair.aside = Some(self.aside.clone());
        let below = path.strip_prefix(self.layout.root()).unwrap_or(path);
        let mut kept = self.aside.join(below);
        while store::exists(&kept) {
            kept.as_mut_os_string().push("~");
        }
        kept
    }
}
