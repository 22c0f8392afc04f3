//! Archives: a manifest of cases, shards of it, and a tree of results that any number of workers fill without talking.
//!
//! [`build`] lists the cases of an archive under keyed ids. [`run()`] works through one [`Shard`] of them: a case is written
//! into `.partial` and renamed to its place when it is whole, so that a killed worker leaves nothing half-done and two workers
//! on one shard do no harm. What stands in the tree alone says what is done ([`state`]); [`merge()`] reads it back.

mod budget;
mod case_folder;
mod case_id;
mod cohort;
mod failure;
mod manifest;
mod merge;
mod plan;
mod qa;
mod resume;
mod run;

pub use case_folder::{CASE_SCHEMA, OutputChoice};
pub use case_id::SiteKey;
pub use cohort::Range;
pub use failure::{Failure, FailureKind, LimitHit};
pub use manifest::{Case, Manifest, build};
pub use merge::{CaseRow, Cohort, merge};
pub use plan::{Balance, Shard, shards_of};
pub use qa::{Flag, Light, Quality};
pub use resume::{Key, Progressed, State, progress, state};
pub use run::{Job, Monitor, Progress, Stale, Tally, run};
