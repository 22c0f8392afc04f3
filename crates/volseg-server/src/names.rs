//! Names from outside: what they may hold, and what stands for them in files and logs.

use crate::refusal::Refusal;
use std::time::{SystemTime, UNIX_EPOCH};

/// An image id: opaque, 1 to 255 bytes of UTF-8 without control characters. It may be a patient's name, so it is only ever
/// looked up and never part of a path or a log line.
pub(crate) fn image_id(id: &str) -> Result<&str, Refusal> {
    match id {
        "" => Err(Refusal::field("the image id is empty")),
        id if id.len() > 255 => Err(Refusal::field("the image id is longer than 255 bytes")),
        id if id.chars().any(char::is_control) => Err(Refusal::field("the image id holds control characters")),
        id => Ok(id),
    }
}

/// A name of a model, strategy, session or tag: `[A-Za-z0-9._-]{1,128}`, and no leading dot.
pub(crate) fn plain<'a>(what: &str, name: &'a str) -> Result<&'a str, Refusal> {
    let fine = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with('.');
    if fine { Ok(name) } else { Err(Refusal::unknown(format!("there is no such {what}"))) }
}

/// What stands for an image id in file names, logs and the audit log.
pub(crate) fn key(id: &str) -> String {
    blake3::derive_key("volseg 2026 image id", id.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random() -> Result<String, Refusal> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::failed("the system gave no random numbers"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `2026-11-25T19:24:07Z` of seconds since 1970.
pub(crate) fn timestamp(seconds: u64) -> String {
    // Days to a civil date after Howard Hinnant's "chrono-compatible low-level date algorithms".
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_opaque_and_plain_names_are_plain() {
        assert!(image_id("2: Abdomen 5.0 B30f").is_ok() && image_id("../x").is_ok());
        assert!(image_id("").is_err() && image_id(&"x".repeat(300)).is_err() && image_id("a\nb").is_err());
        assert!(plain("model", "embedded-auto").is_ok());
        for bad in ["", "..", "a/b", "a b", ".x", "ä"] {
            assert!(plain("model", bad).is_err(), "{bad}");
        }
        assert_eq!(key("a").len(), 32);
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn seconds_become_a_date() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(timestamp(1_795_634_647), "2026-11-25T19:24:07Z");
    }
}
