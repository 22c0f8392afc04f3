//! What `--version` prints.

use std::sync::LazyLock;

/// Features compiled in.
const FEATURES: &str = match (cfg!(feature = "cuda"), cfg!(feature = "jpegls")) {
    (false, false) => "cpu",
    (true, false) => "cpu cuda",
    (false, true) => "cpu jpegls",
    (true, true) => "cpu cuda jpegls",
};

/// The one-line form (`-V`): version and commit.
pub(crate) fn short() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("VOLSEG_COMMIT"), ")")
}

/// The long form (`--version`): one fact a line.
pub(crate) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\ncommit: {}\nfeatures: {FEATURES}\nembedded model: volseg-embedded (docs: explanation/model-card)",
            env!("CARGO_PKG_VERSION"),
            env!("VOLSEG_COMMIT")
        )
    });
    &TEXT
}
