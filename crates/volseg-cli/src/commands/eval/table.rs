//! Label tables, id maps, regions and tolerance tables.

use anyhow::{Context, bail};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use volseg_geometry::OrganId;
use volseg_metrics::{FLARE_ORGANS, FLARE_TOLERANCES, FLARE_TUBES, IdMap, Settings};

/// Scored ids with what a table says about them, in order.
#[derive(Default)]
pub(super) struct Table {
    pub(super) sets: Vec<Vec<u32>>,
    pub(super) names: BTreeMap<Vec<u32>, String>,
    pub(super) tolerances: BTreeMap<Vec<u32>, f64>,
    /// Labels with a mean of their own.
    pub(super) groups: BTreeMap<Vec<u32>, String>,
    /// The label `ignore` of an nnU-Net data set.
    pub(super) ignore: Option<u32>,
}

impl Table {
    fn add(&mut self, ids: Vec<u32>, more: Entry) -> anyhow::Result<()> {
        if ids == [0] {
            return Ok(());
        }
        if ids.contains(&0) {
            bail!("found background (0) in region {}, expected ids from 1 on", text(&ids));
        }
        if self.sets.contains(&ids) {
            bail!("found id {} twice, expected each id once", text(&ids));
        }
        if let Some(name) = more.name {
            if self.names.values().any(|n| *n == name) {
                bail!("found name {name:?} twice, expected each name once");
            }
            self.names.insert(ids.clone(), name);
        }
        self.tolerances.extend(more.tolerance.map(|t| (ids.clone(), t)));
        self.groups.extend(more.group.map(|g| (ids.clone(), g)));
        self.sets.push(ids);
        Ok(())
    }
}

/// What a table says about a label.
#[derive(Default)]
struct Entry {
    name: Option<String>,
    tolerance: Option<f64>,
    group: Option<String>,
}

impl Entry {
    /// From a name, or an object with `name`, `tolerance` and `group`.
    fn of(value: &Value) -> anyhow::Result<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let tolerance = match value.get("tolerance").filter(|v| !v.is_null()) {
            Some(v) => Some(v.as_f64().with_context(|| format!("found tolerance {v}, expected a number of mm"))?),
            None => None,
        };
        Ok(Self { name: value.as_str().map(ToOwned::to_owned).or_else(|| text("name")), tolerance, group: text("group") })
    }
}

/// Ids as text: `6`, or `1+3` for a region.
pub(super) fn text(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join("+")
}

fn id(text: &str) -> anyhow::Result<u32> {
    let text = text.trim();
    match text.parse() {
        Ok(id @ 0..=65535) => Ok(id),
        _ => bail!("found label id {text:?}, expected an integer from 0 to 65535"),
    }
}

fn ids(text: &str) -> anyhow::Result<Vec<u32>> {
    let mut ids = text.split('+').map(id).collect::<anyhow::Result<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// `1,2,3`, organs by name with their own ids, a JSON or a CSV file.
pub(super) fn labels(given: &str) -> anyhow::Result<Table> {
    let mut table = Table::default();
    if !given.is_empty() && given.chars().all(|c| c.is_ascii_digit() || ",+ ".contains(c)) {
        for part in given.split(',') {
            let ids = ids(part)?;
            if ids == [0] {
                bail!("found 0, expected ids from 1 on: 0 is the background, which is not scored");
            }
            table.add(ids, Entry::default())?;
        }
        return Ok(table);
    }
    let organs = || given.split(',').map(str::parse).collect::<Result<Vec<OrganId>, _>>();
    if let (false, Ok(organs)) = (Path::new(given).exists(), organs()) {
        for organ in organs {
            table.add(vec![organ.get().into()], Entry { name: Some(organ.to_string()), ..Entry::default() })?;
        }
        return Ok(table);
    }
    let content = std::fs::read_to_string(given)
        .with_context(|| format!("expected ids (1,2,1+3), organs (liver,spleen) or a table; the file {given:?} cannot be read"))?;
    if content.trim_start().starts_with(['{', '[']) {
        json(&content, &mut table)?;
    } else {
        csv(&content, &mut table)?;
    }
    if table.sets.is_empty() {
        bail!("found no label in {given}, expected at least one");
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

/// `{"1": "liver"}`, `{"liver": 1}`, `{"1": {"name", "tolerance", "group"}}`, a list of objects with an `id` as well, or a
/// `dataset.json` with `labels`.
fn json(content: &str, table: &mut Table) -> anyhow::Result<()> {
    if content.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(content)?;
        for entry in list {
            let key = entry.get("id").with_context(|| format!("found {entry}, expected an object with an id"))?;
            table.add(value_ids(key)?, Entry::of(&entry)?)?;
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
            table.add(ids(&key)?, Entry::of(&value)?)?;
        } else if key == "ignore" {
            table.ignore = value_ids(&value)?.first().copied();
        } else {
            table.add(value_ids(&value)?, Entry { name: Some(key), ..Entry::default() })?;
        }
    }
    Ok(())
}

fn value_ids(value: &Value) -> anyhow::Result<Vec<u32>> {
    match value {
        Value::Array(list) => ids(&list.iter().map(Value::to_string).collect::<Vec<_>>().join("+")),
        Value::String(s) => ids(s),
        other => ids(&other.to_string()),
    }
}

/// Rows of a CSV file with their line numbers; the separator is a comma, semicolon or tab, cells may be quoted.
fn rows(content: &str) -> Vec<(usize, Vec<String>)> {
    let content = content.trim_start_matches('\u{feff}');
    let first = content.lines().next().unwrap_or("");
    let separator = [',', ';', '\t'].into_iter().find(|&s| first.contains(s)).unwrap_or(',');
    let cells = |line: &str| {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match (c, cells.last_mut()) {
                ('"', _) => quoted = !quoted,
                (c, _) if c == separator && !quoted => cells.push(String::new()),
                (c, Some(cell)) => cell.push(c),
                _ => {}
            }
        }
        cells.iter().map(|c| c.trim().to_owned()).collect::<Vec<_>>()
    };
    let lines = content.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    lines.map(|(n, line)| (n + 1, cells(line))).collect()
}

/// Columns `id`, `name`, `tolerance`, `group` in any order (without a heading: in this order).
fn csv(content: &str, table: &mut Table) -> anyhow::Result<()> {
    let mut columns = [Some(0), Some(1), Some(2), Some(3)];
    for (n, (line, row)) in rows(content).iter().enumerate() {
        let heading = row.iter().any(|c| ["id", "label", "value", "index"].iter().any(|h| c.eq_ignore_ascii_case(h)));
        if n == 0 && heading {
            let mut free: Vec<usize> = (0..row.len()).collect();
            columns = [
                &["id", "value", "index", "label"][..],
                &["name", "organ", "structure", "label"],
                &["tolerance", "tolerance_mm"],
                &["group"],
            ]
            .map(|names| {
                let place = |name: &&str| free.iter().position(|&c| row[c].eq_ignore_ascii_case(name));
                names.iter().find_map(place).map(|at| free.remove(at))
            });
            continue;
        }
        let cell = |n: usize| columns[n].and_then(|c| row.get(c)).filter(|c| !c.is_empty());
        let mut read = || {
            let key = cell(0).context("found no id, expected one")?;
            let tolerance = cell(2).map(|t| t.parse().with_context(|| format!("found tolerance {t:?}, expected mm")));
            let text = |n: usize| cell(n).map(ToOwned::to_owned);
            table.add(ids(key)?, Entry { name: text(1), tolerance: tolerance.transpose()?, group: text(3) })
        };
        read().with_context(|| format!("line {line}"))?;
    }
    Ok(())
}

/// `core=1+3,whole=1+2+3`.
pub(super) fn regions(given: &str, table: &mut Table) -> anyhow::Result<()> {
    for part in given.split(',') {
        let (name, set) = part.split_once('=').with_context(|| format!("found {part:?}, expected name=1+2"))?;
        table.add(ids(set)?, Entry { name: Some(name.trim().to_owned()), ..Entry::default() })?;
    }
    Ok(())
}

/// `1:5,2:5`.
pub(super) fn map(given: Option<&str>, strict: bool) -> anyhow::Result<IdMap> {
    let mut to = BTreeMap::new();
    for part in given.into_iter().flat_map(|g| g.split(',')) {
        let (from, into) = part.split_once(':').with_context(|| format!("found {part:?}, expected stored:new"))?;
        let stored = id(from)?;
        if stored == 0 {
            bail!("found a new id for background (0), expected stored ids from 1 on");
        }
        if to.insert(u16::try_from(stored)?, id(into)?).is_some() {
            bail!("found stored id {stored} twice, expected each once");
        }
    }
    Ok(IdMap { strict: strict && !to.is_empty(), to })
}

/// `flare`, or a file of `name or id -> mm`: a JSON object or a CSV of two columns.
pub(super) fn tolerances(given: &str, names: &Table) -> anyhow::Result<BTreeMap<Vec<u32>, f64>> {
    if given == "flare" {
        return flare(names);
    }
    let content = std::fs::read_to_string(Path::new(given)).with_context(|| format!("{given} cannot be read"))?;
    let mm = |v: &str| v.parse::<f64>().with_context(|| format!("found tolerance {v:?}, expected a number of mm"));
    let mut found: Vec<(String, f64)> = Vec::new();
    if content.trim_start().starts_with('{') {
        for (key, value) in serde_json::from_str::<Entries>(&content)?.0 {
            found.push((key, mm(&value.to_string())?));
        }
    } else {
        for (n, (line, row)) in rows(&content).iter().enumerate() {
            match (row.first().map_or("", String::as_str), row.get(1).map_or("", String::as_str)) {
                // A heading.
                (_, v) if n == 0 && v.parse::<f64>().is_err() => {}
                (key, v) => found.push((key.to_owned(), mm(v).with_context(|| format!("line {line}"))?)),
            }
        }
    }
    if found.is_empty() {
        bail!("found no tolerance in {given}, expected name or id and mm in each line, or a JSON object");
    }
    let mut out = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, mm) in found {
        let named = names.names.iter().find(|(_, n)| **n == key).map(|(ids, _)| ids.clone());
        let set = match named {
            Some(set) => set,
            None => ids(&key).with_context(|| format!("found {key:?}, expected an id or a name of --labels"))?,
        };
        if !seen.insert(set.clone()) {
            bail!("found {key:?} twice, expected each label once");
        }
        out.insert(set, mm);
    }
    Ok(out)
}

/// The tolerances and tubes of FLARE'22 for listed labels: by their names, and by FLARE's ids where those are no names of organs.
pub(super) fn flare22(table: &Table, settings: &mut Settings) {
    if table.sets.is_empty() {
        return;
    }
    let of = |ids: &Vec<u32>| match table.names.get(ids) {
        Some(name) if is_organ(name) => flare_organ(name),
        _ => flare_id(ids),
    };
    let found: Vec<(&Vec<u32>, usize)> = table.sets.iter().filter_map(|ids| Some((ids, of(ids)?))).collect();
    settings.table = found.iter().map(|&(ids, n)| (ids.clone(), FLARE_TOLERANCES[n])).collect();
    let tubes = found.into_iter().filter(|(_, n)| FLARE_TUBES.contains(&FLARE_ORGANS[*n]));
    settings.tubes = tubes.map(|(ids, _)| ids.clone()).collect();
}

/// What FLARE and the file of a label say it is, if that differs: FLARE's rules go by ids where `--labels` gives no names.
pub(super) fn misnamed<'a>(ids: &[u32], name: &'a str) -> Option<[&'a str; 2]> {
    let n = flare_id(ids).filter(|n| is_organ(name) && flare_organ(name) != Some(*n))?;
    Some([FLARE_ORGANS[n], name])
}

fn is_organ(name: &str) -> bool {
    name.parse::<OrganId>().is_ok() || flare_organ(name).is_some()
}

/// Which of FLARE's organs an id is.
fn flare_id(ids: &[u32]) -> Option<usize> {
    let [id] = ids else { return None };
    (*id as usize).checked_sub(1).filter(|n| *n < FLARE_ORGANS.len())
}

/// Which of FLARE's organs a name is.
fn flare_organ(name: &str) -> Option<usize> {
    let organ = name.parse().map_or_else(|_| name.to_lowercase(), |id: OrganId| id.organ().name.to_owned());
    FLARE_ORGANS.iter().position(|o| *o == organ)
}

/// FLARE's tolerances: for the organs of that name if labels have names, whose ids may be those of another data set.
fn flare(names: &Table) -> anyhow::Result<BTreeMap<Vec<u32>, f64>> {
    if names.names.is_empty() {
        return Ok(volseg_metrics::flare_table());
    }
    let of = |name: &String| flare_organ(name).map(|n| FLARE_TOLERANCES[n]);
    let found: BTreeMap<_, _> = names.names.iter().filter_map(|(ids, name)| Some((ids.clone(), of(name)?))).collect();
    if found.is_empty() {
        bail!("found no organ of FLARE among the names of --labels, expected some of {}", FLARE_ORGANS.join(", "));
    }
    Ok(found)
}
