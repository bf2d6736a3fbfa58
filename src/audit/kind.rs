//! The kinds of findings: what each is called, how grave it is, and which there are.

use serde::Serialize;

/// How grave a finding is, in the words of `spool-layout.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Something is lost, or could be.
    Must,
    /// A picture is not what it should be.
    Should,
}

/// Makes the enum, and the list of all kinds with it, so that none can be left out of the list.
macro_rules! kinds {
    ($($severity:ident { $($kind:ident)* })*) => {
        /// What is wrong; programs may rely on these names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum Kind { $($($kind,)*)* }

        impl Kind {
            /// Every kind, the gravest first.
            #[cfg(test)]
            pub(crate) const ALL: &[Kind] = &[$($(Kind::$kind,)*)*];

            pub(crate) fn severity(self) -> Severity {
                match self { $($(Kind::$kind => Severity::$severity,)*)* }
            }
        }
    };
}

kinds! {
    Must {
        // Logs.
        LineUnreadable
        LineMissing
        LineRepeated
        SegmentMisnamed
        LogBehind
        TaskNeverSubmitted
        SubmittedTwice
        MovedAfterEnd
        AttemptRepeated
        GivenTwice
        EditedWhileActive
        AnsweredTwice
        NoticeRepeated
        NoticeUnknown
        TextMissing
        TextDiffers
        // The tree.
        TaskNotInLog
        ReceiptOfNoLine
        CheckpointDiffers
        HostUnknown
        RemovedUnreadable
        Unreadable
        // Runs.
        RunOfNoTask
        RunTooEarly
        RunNotEnded
        RunLogForeign
        BegunTwice
        EndedTwice
        AgentStartedTwice
        OutcomeDiffers
        AssignmentDiffers
        LockMissing
    }
    Should {
        LineUnfinished
        NoticeMissing
        SegmentDiffers
        TextUnnamed
        CheckpointUnreadable
        DaemonGone
        DaemonRecordUnreadable
        LeftInTmp
        ClaimAnswered
        ReceiptMissing
        ReceiptUnreadable
        ReceiptDiffers
        ReceiptMisplaced
        KeyUnreadable
        KeyDiffers
        ReaderUnreadable
        ReaderDiffers
        WhyUnreadable
        WhyDiffers
        RefusedUnknown
        FolderMissing
        TaskMissing
        TaskMisplaced
        TaskTwice
        TaskUnreadable
        TaskDiffers
        RunMisplaced
        RunNotBegun
        RunAbandoned
        RunNotFiled
        LockHeld
        RecordMissing
        RecordUnreadable
        RecordDiffers
        AssignmentMissing
        AssignmentUnreadable
        CommandUnreadable
        CommandOpen
        CommandUnheard
        CancelMissing
        WakeLeft
        WorkspaceOfNoRun
        LeftInTrash
        WrongSort
        Unexplained
    }
}

impl Kind {
    /// The name in files and on the command line.
    pub(crate) fn word(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(ToOwned::to_owned))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_each_kind_with_its_severity_and_no_other() {
        let document = include_str!("../../spool-layout.md");
        let (_, section) = document.split_once("\n## Findings\n").unwrap();
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let kind = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
            Some((kind, cells[2].to_owned()))
        };
        let mut told: Vec<(String, String)> = section.lines().filter_map(row).collect();
        let severity = |kind: &Kind| match kind.severity() {
            Severity::Must => "must".to_owned(),
            Severity::Should => "should".to_owned(),
        };
        let mut expected: Vec<_> = Kind::ALL.iter().map(|kind| (kind.word(), severity(kind))).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }
}
