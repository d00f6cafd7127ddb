//! Why a reconcile ends before its end.

/// Ends a reconcile early; the status keeps what was written so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Trying again cannot help.
    Permanent(String),
    /// Trying again may help.
    Retry(String),
    /// Somebody else is at work on what is needed (P-289).
    Waiting,
    /// Questions are open; nothing of the decision counts but them.
    Ask,
}
