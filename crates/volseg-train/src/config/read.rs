//! TOML and what the command line changes in it, with the line of what is wrong.

use crate::Error;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// TOML with `key=value` changes, whose keys are dotted paths: `model.side=64`, `pictures.0.batch=2` (numbered from 0).
pub(crate) fn read_table(text: &str, changes: &[String]) -> Result<Value, Error> {
    let mut root = Value::Table(toml::from_str(text).map_err(|e| in_text(text, &e))?);
    for key in ["cts", "phantoms", "model"] {
        if root.get(key).is_some_and(Value::is_array) {
            return Err(Error::Config(format!("[[{key}]]: there is one of them, so write [{key}]")));
        }
    }
    for change in changes {
        let (key, value) =
            change.split_once('=').ok_or_else(|| Error::Config(format!("`{change}` is not of the form key=value")))?;
        let mut parsed: Table = format!("v = {value}")
            .parse()
            .or_else(|_| format!("v = {value:?}").parse())
            .map_err(|e: toml::de::Error| Error::Config(format!("{key}: {}", e.message())))?;
        let mut at = &mut root;
        for part in key.split('.') {
            at = match at {
                Value::Table(table) => table.entry(part).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(list) => {
                    let n = list.len();
                    part.parse().ok().and_then(|i: usize| list.get_mut(i)).ok_or_else(|| {
                        Error::Config(format!("`{key}`: found {part}, expected the number of one of {n}, from 0"))
                    })?
                }
                _ => return Err(Error::Config(format!("`{key}`: there is no table for {part}"))),
            };
        }
        if let Some(value) = parsed.remove("v") {
            *at = value;
        }
    }
    Ok(root)
}

/// What `text` with its changes says. A mistake in `text` itself is told with its line.
pub(crate) fn typed<T: DeserializeOwned>(changed: Value, text: &str) -> Result<T, Error> {
    changed.try_into().map_err(|e: toml::de::Error| match toml::from_str::<T>(text) {
        Err(own) if own.message() == e.message() => in_text(text, &own),
        _ => Error::Config(e.message().to_owned()),
    })
}

fn in_text(text: &str, e: &toml::de::Error) -> Error {
    let before = e.span().and_then(|s| text.get(..s.start));
    let line = before.map_or(String::new(), |b| format!("line {}: ", b.matches('\n').count() + 1));
    Error::Config(line + e.message())
}

#[cfg(test)]
mod tests {
    use crate::TrainConfig;

    const TEXT: &str = "steps = 5\n\n[[pictures]]\npath = \"a\"\nmodality = \"xray\"\norgan = \"lungs\"\n";

    fn parse(text: &str, changes: &[&str]) -> Result<TrainConfig, String> {
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        TrainConfig::parse(text, &changes).map_err(|e| e.to_string())
    }

    #[test]
    fn changes_reach_elements_of_arrays() {
        let c = parse(TEXT, &["pictures.0.path=/data/b", "pictures.0.split.seed=3", "pictures.0.split.validation=0.1"]);
        let set = &c.unwrap().pictures[0];
        assert_eq!((set.path.to_str(), set.split.unwrap().seed), (Some("/data/b"), 3));
        for key in ["pictures.1.path", "pictures.path", "pictures.-1.path"] {
            let error = parse(TEXT, &[&format!("{key}=b")]).unwrap_err();
            assert!(error.contains(key) && error.contains("one of 1"), "{error}");
        }
        assert!(parse(TEXT, &["steps.0=1"]).unwrap_err().contains("no table for 0"));
    }

    #[test]
    fn a_mistake_has_its_line() {
        for (text, line, reason) in [
            (TEXT.replace("organ =", "organs ="), "line 6: ", "organs"),
            (TEXT.replace("steps = 5", "steps = \"5\""), "line 1: ", "string"),
            (TEXT.replace("modality = \"xray\"", "modality ="), "line 5: ", ""),
            (TEXT.replace("\"xray\"", "\"x-ray\""), "line 5: ", "x-ray"),
            (TEXT.replace("organ = \"lungs\"\n", ""), "line 3: ", "organ"),
        ] {
            let error = parse(&text, &["seed=2"]).unwrap_err();
            assert!(error.contains(line) && error.contains(reason), "{text}\n{error}");
        }
        // What stands on the command line has none.
        assert!(!parse(TEXT, &["stepz=2"]).unwrap_err().contains("line"));
    }
}
