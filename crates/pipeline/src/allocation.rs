//! A type for each tensor, so that the file has a size that was asked for and diverges little from its source.
//!
//! [`measure`] finds out what a tensor's error does: tensors of one role in neighbouring layers are quantized together to
//! their smallest type, and the divergence from the source on a text is measured. It grows with the squared error, so that
//! the errors of other types, which cost no evaluation, say what these would do. Errors of different tensors add up.
//! [`Table::choose`] spends a budget of bytes where that takes away the most divergence.

mod budget;
mod error;
mod knapsack;
mod measure;
mod squares;
mod table;

pub use budget::{Allocation, allocate};
pub use error::AllocationError;
pub use measure::{MeasureOptions, Progress, measure};
pub use table::{Row, Settings, Table, Way};
