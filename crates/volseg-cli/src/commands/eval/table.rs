//! Label tables, id maps, regions and tolerance tables.

use anyhow::{Context, bail};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use volseg_metrics::IdMap;

/// Scored ids with their names, in order.
#[derive(Default)]
pub(super) struct Table {
    pub(super) sets: Vec<Vec<u32>>,
    pub(super) names: BTreeMap<Vec<u32>, String>,
    pub(super) tolerances: BTreeMap<u32, f64>,
}

impl Table {
    fn add(&mut self, ids: Vec<u32>, name: Option<String>, tolerance: Option<f64>) -> anyhow::Result<()> {
        if ids == [0] {
            return Ok(());
        }
        if self.sets.contains(&ids) {
            bail!("--labels: found id {} twice, expected each id once", text(&ids));
        }
        if let Some(name) = name {
            if self.names.values().any(|n| *n == name) {
                bail!("--labels: found name {name:?} twice, expected each name once");
            }
            self.names.insert(ids.clone(), name);
        }
        if let (Some(t), [id]) = (tolerance, ids.as_slice()) {
            self.tolerances.insert(*id, t);
        }
        self.sets.push(ids);
        Ok(())
    }
}

/// Ids as text: `6`, or `1+3` for a region.
pub(super) fn text(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join("+")
}

fn id(text: &str) -> anyhow::Result<u32> {
    let id: u32 = text.trim().parse().with_context(|| format!("found label id {text:?}, expected an integer"))?;
    if id > 65535 {
        bail!("found label id {id}, expected 0 to 65535");
    }
    Ok(id)
}

fn ids(text: &str) -> anyhow::Result<Vec<u32>> {
    let mut ids = text.split('+').map(id).collect::<anyhow::Result<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// `1,2,3`, a JSON or a CSV file.
pub(super) fn labels(given: &str) -> anyhow::Result<Table> {
    let mut table = Table::default();
    if !given.is_empty() && given.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '+' || c == ' ') {
        for part in given.split(',') {
            table.add(ids(part)?, None, None)?;
        }
        return Ok(table);
    }
    let path = Path::new(given);
    let content = std::fs::read_to_string(path).with_context(|| format!("--labels {given} cannot be read"))?;
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        json(&content, &mut table).with_context(|| format!("--labels {given}"))?;
    } else {
        csv(&content, &mut table).with_context(|| format!("--labels {given}"))?;
    }
    if table.sets.is_empty() {
        bail!("--labels {given}: found no label, expected at least one");
    }
    Ok(table)
}

/// A JSON object that keeps repeated keys.
struct Entries(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Entries(all))
            }
        }
        d.deserialize_map(All)
    }
}

/// `{"1": "liver"}`, `{"liver": 1}`, `{"1": {"name": …, "tolerance": …}}`, a list of `{"id", "name", "tolerance"}`, or a
/// `dataset.json` with `labels`.
fn json(content: &str, table: &mut Table) -> anyhow::Result<()> {
    if content.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(content)?;
        for entry in list {
            let key = entry.get("id").with_context(|| format!("found {entry}, expected an object with an id"))?;
            table.add(value_ids(key)?, name_of(&entry), entry.get("tolerance").and_then(Value::as_f64))?;
        }
        return Ok(());
    }
    #[derive(serde::Deserialize)]
    struct Dataset {
        labels: Entries,
    }
    let entries = match serde_json::from_str::<Dataset>(content) {
        Ok(dataset) => dataset.labels,
        Err(_) => serde_json::from_str::<Entries>(content)?,
    };
    for (key, value) in entries.0 {
        if key.chars().all(|c| c.is_ascii_digit() || c == '+') {
            let tolerance = value.get("tolerance").and_then(Value::as_f64);
            table.add(ids(&key)?, name_of(&value), tolerance)?;
        } else {
            table.add(value_ids(&value)?, Some(key), None)?;
        }
    }
    Ok(())
}

fn name_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("name").and_then(Value::as_str)).map(ToOwned::to_owned)
}

fn value_ids(value: &Value) -> anyhow::Result<Vec<u32>> {
    match value {
        Value::Array(list) => ids(&list.iter().map(Value::to_string).collect::<Vec<_>>().join("+")),
        Value::String(s) => ids(s),
        other => ids(&other.to_string()),
    }
}

/// Columns `id`, `name`, `tolerance` in any order (without a heading: in this order).
fn csv(content: &str, table: &mut Table) -> anyhow::Result<()> {
    let mut columns = [Some(0), Some(1), Some(2)];
    for (n, line) in content.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(|c| c.trim().trim_matches('"')).collect();
        if n == 0 && cells.iter().any(|c| c.eq_ignore_ascii_case("id") || c.eq_ignore_ascii_case("label")) {
            let place = |names: &[&str]| cells.iter().position(|c| names.iter().any(|n| c.eq_ignore_ascii_case(n)));
            columns = [place(&["id", "label"]), place(&["name"]), place(&["tolerance", "tolerance_mm"])];
            continue;
        }
        let cell = |n: usize| columns[n].and_then(|c| cells.get(c)).copied().filter(|c| !c.is_empty());
        let key = cell(0).with_context(|| format!("line {}: found no id, expected one", n + 1))?;
        let tolerance = cell(2).map(str::parse).transpose().with_context(|| format!("line {}: tolerance", n + 1))?;
        table.add(ids(key)?, cell(1).map(ToOwned::to_owned), tolerance)?;
    }
    Ok(())
}

/// `core=1+3,whole=1+2+3`.
pub(super) fn regions(given: &str, table: &mut Table) -> anyhow::Result<()> {
    for part in given.split(',') {
        let (name, set) = part.split_once('=').with_context(|| format!("found {part:?}, expected name=1+2"))?;
        table.add(ids(set)?, Some(name.trim().to_owned()), None)?;
    }
    Ok(())
}

/// `1:5,2:5`.
pub(super) fn map(given: Option<&str>, strict: bool) -> anyhow::Result<IdMap> {
    let mut to = BTreeMap::new();
    for part in given.into_iter().flat_map(|g| g.split(',')) {
        let (from, into) = part.split_once(':').with_context(|| format!("found {part:?}, expected stored:new"))?;
        if to.insert(u16::try_from(id(from)?)?, id(into)?).is_some() {
            bail!("id map: found stored id {from} twice, expected each once");
        }
    }
    Ok(IdMap { strict: strict && !to.is_empty(), to })
}

/// A file of `name or id -> mm`: JSON object or CSV.
pub(super) fn tolerances(path: &Path, names: &Table) -> anyhow::Result<BTreeMap<u32, f64>> {
    let content = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let rows: Vec<(String, f64)> = if content.trim_start().starts_with('{') {
        let entries: Entries = serde_json::from_str(&content)?;
        let number = |(k, v): (String, Value)| v.as_f64().map(|v| (k.clone(), v)).with_context(|| format!("{k}: {v}"));
        entries.0.into_iter().map(number).collect::<anyhow::Result<_>>()?
    } else {
        let row = |l: &str| {
            let (k, v) = l.split_once(',')?;
            Some((k.trim().to_owned(), v.trim().parse().ok()?))
        };
        content.lines().filter_map(row).collect()
    };
    let mut out = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, mm) in rows {
        let named = names.names.iter().find(|(_, n)| **n == key).and_then(|(ids, _)| ids.first().copied());
        let id = named.map_or_else(|| id(&key), Ok)?;
        if !seen.insert(id) {
            bail!("{}: found {key:?} twice, expected each label once", path.display());
        }
        out.insert(id, mm);
    }
    Ok(out)
}
