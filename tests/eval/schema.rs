//! Checks JSON against docs/schema/eval.schema.json; knows the words that the schema uses and refuses all others.

use serde_json::Value;
use std::{fs, path::Path};

pub(crate) fn check(value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/eval.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    if let Err(why) = fits(&schema, &schema, value, "$") {
        panic!("{why}");
    }
}

fn fits(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {value} {what}"));
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let target = rule.as_str().unwrap().trim_start_matches('#');
                fits(root, root.pointer(target).unwrap_or_else(|| panic!("{target}")), value, at)?;
            }
            "type" => {
                let types = rule.as_array().map_or(vec![rule], |a| a.iter().collect());
                if !types.iter().any(|t| is(value, t.as_str().unwrap())) {
                    return wrong(&format!("is no {rule}"));
                }
            }
            "const" if value != rule => return wrong(&format!("is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => return wrong(&format!("is not one of {rule}")),
            "minimum" if value.as_f64().is_some_and(|v| v < rule.as_f64().unwrap()) => return wrong("is too small"),
            "const" | "enum" | "minimum" => {}
            "required" => {
                for key in rule.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        return Err(format!("{at}: {key} is missing"));
                    }
                }
            }
            "properties" => {
                for (key, inner) in rule.as_object().unwrap() {
                    if let Some(v) = value.get(key) {
                        fits(root, inner, v, &format!("{at}.{key}"))?;
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (key, v) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|k| k.contains_key(key)) {
                        continue;
                    }
                    match rule {
                        Value::Bool(false) => return Err(format!("{at}: {key} is not in the schema")),
                        inner => fits(root, inner, v, &format!("{at}.{key}"))?,
                    }
                }
            }
            "items" => {
                for (n, v) in value.as_array().into_iter().flatten().enumerate() {
                    fits(root, rule, v, &format!("{at}[{n}]"))?;
                }
            }
            "oneOf" => {
                let n = rule.as_array().unwrap().iter().filter(|s| fits(root, s, value, at).is_ok()).count();
                if n != 1 {
                    return wrong(&format!("fits {n} of {rule}"));
                }
            }
            "pattern" => {
                assert_eq!(rule, "^[0-9]+([+][0-9]+)*$");
                if value.as_str().is_some_and(|v| v.split('+').any(|p| p.parse::<u32>().is_err())) {
                    return wrong("is no region");
                }
            }
            other => panic!("the schema uses {other}"),
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    }
}
