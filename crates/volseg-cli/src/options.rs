//! Forms of option values that several commands share, and the rule that `_` reads as `-` in option names.

use std::{ffi::OsString, str::FromStr};

/// Arguments with `_` replaced by `-` in the names of long options, up to a bare `--`. Values stay as they are.
pub(crate) fn with_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut options = true;
    let rewrite = |argument: OsString| {
        options &= argument != "--";
        let Some(name) = argument.to_str().filter(|text| options && text.starts_with("--")) else { return argument };
        match name.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
            None => name.replace('_', "-").into(),
        }
    };
    arguments.into_iter().map(rewrite).collect()
}

/// Whether `--log-format json` stands among arguments that may not be understood otherwise.
pub(crate) fn asks_for_json(arguments: &[OsString]) -> bool {
    let next = |n: usize| arguments.get(n + 1).is_some_and(|v| v == "json");
    arguments.iter().enumerate().any(|(n, a)| a == "--log-format=json" || (a == "--log-format" && next(n)))
}

/// `--device`: where networks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Device {
    /// The CPU (docs: how-to/gpu).
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into()),
        }
    }
}

/// A value that may also be `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Auto<T>(pub(crate) Option<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Auto<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        text.parse().map(|value| Self(Some(value))).map_err(|e: T::Err| format!("{e}, or auto"))
    }
}

/// `--memory`: a number of bytes with an optional unit, such as `2GiB`, `1.5g` or `800M` (all powers of 1024).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        other => return Err(format!("unknown unit {other:?}; expected K, M, G or T")),
    };
    let bytes = digits.trim().parse::<f64>().map_err(|_| "expected a size such as 2GiB".to_owned())? * unit as f64;
    if (1.0..9e18).contains(&bytes) { Ok(bytes as u64) } else { Err("expected a size such as 2GiB".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_in_option_names_read_as_dashes() {
        let given = ["volseg", "--log_format=a_b", "x_y", "--save_probabilities", "p_q", "--", "--a_b"];
        let read = with_dashes(given.map(OsString::from));
        assert_eq!(read, ["volseg", "--log-format=a_b", "x_y", "--save-probabilities", "p_q", "--", "--a_b"]);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("1.5k"), Ok(1536));
        assert_eq!(size("70"), Ok(70));
        for bad in ["", "-1", "0", "inf", "nan", "3x", "1e300T", "G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn auto_stands_beside_values() {
        assert_eq!("auto".parse(), Ok(Auto::<u8>(None)));
        assert_eq!("7".parse(), Ok(Auto(Some(7u8))));
        assert!("seven".parse::<Auto<u8>>().is_err_and(|e| e.ends_with(", or auto")));
    }

    #[test]
    fn devices_are_named() {
        assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
        assert!("cuda:".parse::<Device>().is_err() && "gpu".parse::<Device>().is_err());
    }
}
