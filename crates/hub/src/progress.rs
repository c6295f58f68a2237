//! How long work reports what it has done.

/// Told of the stages of a pull, one after the other. The hub calls it from the thread that called the hub.
pub trait Progress {
    /// A stage begins: what it does, and the bytes it will take where that is known.
    fn start(&self, what: &str, total: Option<u64>);
    /// So many more bytes of the stage are done.
    fn advance(&self, bytes: u64);
    /// The stage is over. A stage that fails is not finished.
    fn finish(&self);
    /// Whether the caller wants the work to end. It is asked often; the work then fails with
    /// [`Stopped`](crate::HubError::Stopped) and keeps what it can go on from.
    fn stopped(&self) -> bool {
        false
    }
}

/// Shows nothing.
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}
