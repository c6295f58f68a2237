//! Where models come from and where they are kept: names, transports and the local store.
//!
//! [`locate`] is what every command calls with its MODEL argument; [`pull`] and [`Store`] serve the commands that
//! manage the store. See [`Reference`] for what MODEL may be.

mod alias;
mod bundle;
mod delete;
mod error;
mod http;
mod images;
mod locate;
mod name;
mod near;
mod progress;
mod pull;
mod push;
mod shard;
pub mod store;
mod time;
pub mod transport;

pub use alias::{Alias, AliasSource, aliases};
pub use bundle::{Bundled, export, import};
pub use delete::{Deleted, delete};
pub use error::{HubError, Result};
pub use images::{ImagePlace, Images};
pub use locate::{Location, Missing, locate};
pub use name::{Reference, Scheme, StoreName};
pub use progress::{NoProgress, Progress};
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};
pub use store::{Digest, Entry, Layer, Model, Removed, Store, Weights, default_home};
