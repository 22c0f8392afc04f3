//! volseg-tests
