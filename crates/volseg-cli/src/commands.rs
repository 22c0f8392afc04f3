//! The subcommands, one file each: `Args` (what is asked) and `run` (does it).

use crate::{exit::ExitCode, global::Global};

/// Declares the modules and the enum that clap reads; to plug a command in, add its line.
macro_rules! commands {
    ($($variant:ident $module:ident),* $(,)?) => {
        $(mod $module;)*

        #[derive(clap::Subcommand)]
        pub(crate) enum Command {
            $($variant($module::Args)),*
        }

        impl Command {
            /// Whether it minds signals itself, to end at a good place.
            pub(crate) fn minds_signals(&self) -> bool {
                match self {
                    Self::Batch(args) => args.minds_signals(),
                    Self::Serve(_) => true,
                    _ => false,
                }
            }

            /// How to go on after a signal ended the command.
            pub(crate) fn way_on(&self) -> &'static str {
                match self {
                    Self::Train(_) => "; the same command with --resume goes on from the last checkpoint",
                    Self::Experiment(_) => "; the same command goes on",
                    _ => "; unfinished files were removed",
                }
            }

            /// Runs the command.
            pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
                match self {
                    $(Self::$variant(args) => $module::run(args, global)),*
                }
            }
        }
    };
}

commands! {
    Batch batch,
    Convert convert,
    Eval eval,
    Experiment experiment,
    Inspect inspect,
    Manifest manifest,
    Organs organs,
    Preview preview,
    Phantom phantom,
    Prompt prompt,
    Segment segment,
    Serve serve,
    Slicer slicer,
    Train train,
    Weights weights,
}
