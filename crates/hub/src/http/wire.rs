//! Asynchronous requests from synchronous code that looks out for a wish to stop.

use std::error::Error;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use tokio::runtime::{Builder, Runtime};

use super::tls;
use crate::{HubError, Progress, Result};

/// Long enough for any network, short enough to try the next source.
const CONNECT: Duration = Duration::from_secs(8);

/// Between two looks at [`Progress::stopped`].
const TICK: Duration = Duration::from_millis(100);

pub struct Wire {
    runtime: Runtime,
    client: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Broken {
    /// The caller wants no more.
    Stopped,
    /// The server does not prove who it is.
    Untrusted { cause: String, hint: Option<&'static str> },
    Failed {
        cause: String,
        /// No connection was made at all.
        unreachable: bool,
    },
}

impl Wire {
    pub fn new() -> Result<Self> {
        let failed = |cause: String| HubError::Network { url: "the network".to_owned(), cause, unreachable: true };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|e: io::Error| failed(e.to_string()))?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("edgeling/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .tls_backend_preconfigured(tls::config().map_err(|e| failed(e.to_string()))?)
            .build()
            .map_err(|error| failed(deepest(&error)))?;
        Ok(Self { runtime, client })
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Waits for `work`, at most `limit`, and no longer than `progress` wants.
    pub fn wait<T>(
        &self,
        limit: Duration,
        progress: &dyn Progress,
        work: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Broken> {
        let deadline = Instant::now() + limit;
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                match tokio::time::timeout(TICK, work.as_mut()).await {
                    Ok(Ok(value)) => return Ok(value),
                    Ok(Err(error)) => {
                        if let Some((cause, hint)) = tls::distrust(&error) {
                            return Err(Broken::Untrusted { cause, hint });
                        }
                        return Err(Broken::Failed { cause: deepest(&error), unreachable: error.is_connect() });
                    }
                    Err(_) if progress.stopped() => return Err(Broken::Stopped),
                    Err(_) if Instant::now() >= deadline => {
                        let cause = format!("no answer for {} s", limit.as_secs());
                        return Err(Broken::Failed { cause, unreachable: false });
                    }
                    Err(_) => {}
                }
            }
        })
    }

    pub fn sleep(&self, time: Duration, progress: &dyn Progress) -> Result<(), Broken> {
        self.wait(time + TICK, progress, async {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }
}

/// The innermost cause: the outer ones only say that a request failed.
fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
