//! volseg-benches
