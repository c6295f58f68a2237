//! When to ask again, and how long to wait before.

use std::time::Duration;

use super::Response;
use crate::HubError;

/// Attempts after the first, without any progress between them.
const MOST: u32 = 4;

/// A server that cannot be connected to is rarely there a moment later.
const MOST_UNREACHABLE: u32 = 1;

/// Before the first repetition; doubled for each that follows.
const FIRST_DELAY: Duration = Duration::from_millis(300);

/// Nobody waits longer than this for a server that is busy.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Counts attempts that brought nothing.
#[derive(Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// How long to wait after this failure; `None` when it is time to give up. `asked` is the wait that the server asks
    /// for; one that is too long is not waited for.
    pub fn next(&mut self, failure: &HubError, asked: Option<Duration>) -> Option<Duration> {
        let most = match failure {
            HubError::Network { unreachable: true, .. } => MOST_UNREACHABLE,
            _ => MOST,
        };
        if self.failures >= most || asked.is_some_and(|asked| asked > LONGEST_DELAY) {
            return None;
        }
        let delay = asked.unwrap_or(FIRST_DELAY * 2u32.pow(self.failures));
        self.failures += 1;
        Some(delay)
    }
}

/// Whether an answer tells of a failure that may pass: too many requests, or trouble behind the server (RFC 9110 and RFC
/// 6585). The wait in it is the one that `Retry-After` asks for, in seconds.
pub fn passing(response: &Response) -> Option<Option<Duration>> {
    let passes = matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
    passes.then(|| response.header("retry-after")?.trim().parse().ok().map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let network = |unreachable| HubError::Network { url: String::new(), cause: String::new(), unreachable };
        let attempts = |unreachable| {
            let mut patience = Patience::default();
            std::iter::from_fn(|| patience.next(&network(unreachable), None)).count()
        };
        assert_eq!((attempts(false), attempts(true)), (4, 1));
        let asked = |seconds| Patience::default().next(&network(false), Some(Duration::from_secs(seconds)));
        assert_eq!((asked(0), asked(60), asked(61)), (Some(Duration::ZERO), Some(Duration::from_secs(60)), None));
    }
}
