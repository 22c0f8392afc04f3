use super::FORMAT;
use crate::{Error, ReadOptions, Result, number_text, voxels::Layout};
use std::collections::BTreeMap;
use volseg_geometry::{Affine, VoxelKind};

/// A header longer than this is none.
const MOST_HEADER_BYTES: usize = 16 << 20;
const MOST_FILES: usize = 100_000;

/// The lines of a header.
pub(super) struct Fields {
    fields: BTreeMap<String, String>,
    /// `key:=value` lines.
    pub(super) keys: BTreeMap<String, String>,
    files: Vec<String>,
    /// Where the header ends.
    pub(super) end: usize,
}

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut out = Self { fields: BTreeMap::new(), keys: BTreeMap::new(), files: Vec::new(), end: 0 };
        let mut at = 0usize;
        let mut first = true;
        let mut listing = false;
        loop {
            let rest = bytes.get(at..).unwrap_or(&[]);
            let Some(length) = rest.iter().take(MOST_HEADER_BYTES).position(|&b| b == b'\n') else {
                // A detached header may end with the file.
                if rest.is_empty() && !first && out.field("data file").is_some() {
                    break;
                }
                return Err(Error::malformed(FORMAT, "the header has no end (an empty line)"));
            };
            if at > MOST_HEADER_BYTES {
                return Err(Error::malformed(FORMAT, "the header has no end (an empty line)"));
            }
            let line = String::from_utf8_lossy(&rest[..length]);
            let line = line.trim_end_matches('\r');
            at += length + 1;
            if first {
                if !matches!(line, "NRRD0001" | "NRRD0002" | "NRRD0003" | "NRRD0004" | "NRRD0005") {
                    return Err(Error::malformed(FORMAT, "the first line is not NRRD0001 to NRRD0005"));
                }
                first = false;
            } else if line.is_empty() {
                break;
            } else if listing {
                out.files.push(line.to_owned());
            } else if line.starts_with('#') {
            } else if let Some((key, value)) = line.split_once(":=") {
                out.keys.insert(key.to_owned(), value.to_owned());
            } else if let Some((field, value)) = line.split_once(": ") {
                let field = match field.to_ascii_lowercase().as_str() {
                    "datafile" => "data file".into(),
                    "lineskip" => "line skip".into(),
                    "byteskip" => "byte skip".into(),
                    "axismins" => "axis mins".into(),
                    "spaceorigin" => "space origin".into(),
                    "spacedirections" => "space directions".into(),
                    other => other.to_owned(),
                };
                listing = field == "data file" && value.trim_start().starts_with("LIST");
                if out.fields.insert(field.clone(), value.trim().to_owned()).is_some() {
                    return Err(Error::malformed(FORMAT, format!("field {field:?} stands twice")));
                }
            } else {
                return Err(Error::malformed(FORMAT, "a header line is neither a field nor a key"));
            }
        }
        out.end = at.min(bytes.len());
        Ok(out)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str> {
        self.field(name).ok_or_else(|| Error::malformed(FORMAT, format!("field {name:?} is missing")))
    }

    pub(super) fn integer(&self, name: &str) -> Result<i64> {
        let Some(text) = self.field(name) else { return Ok(0) };
        text.parse()
            .ok()
            .filter(|n| (-1..1 << 40).contains(n))
            .ok_or_else(|| Error::malformed(FORMAT, format!("field {name:?} is {text:?}, expected a number from -1")))
    }

    pub(super) fn whole(&self, name: &str) -> Result<u64> {
        u64::try_from(self.integer(name)?).map_err(|_| Error::malformed(FORMAT, format!("field {name:?} is negative")))
    }

    pub(super) fn encoding(&self) -> Result<&'static str> {
        match self.required("encoding")?.to_ascii_lowercase().as_str() {
            "raw" => Ok("raw"),
            "gzip" | "gz" => Ok("gzip"),
            "txt" | "text" | "ascii" => Ok("ascii"),
            other => Err(Error::unsupported(FORMAT, format!("encoding {other:?}"))),
        }
    }

    /// Whether `space` names sides of the patient.
    pub(super) fn sides_known(&self) -> bool {
        let space = self.field("space").unwrap_or_default().to_ascii_lowercase();
        ["left-", "right-", "las", "lps", "ras"].iter().any(|start| space.starts_with(start))
    }

    /// Names of detached data files.
    pub(super) fn data_files(&self) -> Result<Option<Vec<String>>> {
        let Some(text) = self.field("data file") else { return Ok(None) };
        if text.starts_with("LIST") {
            if self.files.is_empty() || self.files.len() > MOST_FILES {
                return Err(Error::malformed(FORMAT, format!("a list of {} data files", self.files.len())));
            }
            return Ok(Some(self.files.clone()));
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        if let [pattern, from, to, step] | [pattern, from, to, step, _] = parts[..]
            && let (Ok(from), Ok(to), Ok(step)) = (from.parse::<i64>(), to.parse::<i64>(), step.parse::<i64>())
        {
            let bad = || Error::malformed(FORMAT, "the pattern of data files is not usable");
            let (before, rest) = pattern.split_once('%').ok_or_else(bad)?;
            let (width, after) = rest.split_once('d').ok_or_else(bad)?;
            let zeros = width.starts_with('0');
            let width: usize = if width.is_empty() { 0 } else { width.parse().map_err(|_| bad())? };
            let count = if step == 0 { None } else { to.checked_sub(from).map(|d| d / step) };
            let count = count
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n < MOST_FILES && width < 20)
                .ok_or_else(bad)?;
            return Ok(Some(
                (0..=count as i64)
                    .map(|n| from + n * step)
                    .map(|n| {
                        if zeros { format!("{before}{n:0width$}{after}") } else { format!("{before}{n:width$}{after}") }
                    })
                    .collect(),
            ));
        }
        Ok(Some(vec![text.to_owned()]))
    }

    pub(super) fn layout(&self, options: &ReadOptions, warnings: &mut Vec<String>) -> Result<Layout> {
        let kind = self.kind()?;
        let sizes = number_text::numbers(FORMAT, "sizes", self.required("sizes")?)?;
        let dimension = self.whole("dimension")?;
        if sizes.len() as u64 != dimension || !(1..=16).contains(&dimension) {
            return Err(Error::malformed(FORMAT, format!("{} sizes for dimension {dimension}", sizes.len())));
        }
        let sizes: Vec<u64> = sizes
            .iter()
            .map(|&s| {
                if (1.0..9e15).contains(&s) && s.fract() == 0.0 {
                    Ok(s as u64)
                } else {
                    Err(Error::malformed(FORMAT, format!("a size is {s}")))
                }
            })
            .collect::<Result<_>>()?;
        options.limits.voxels(&sizes)?;
        let space = Space::of(self, sizes.len(), warnings)?;
        let mut spatial = space.axes.clone();
        // Further axes of length 1 say nothing.
        let others: Vec<usize> = (0..sizes.len()).filter(|a| !spatial.contains(a) && sizes[*a] > 1).collect();
        let (frames, interleaved) = match others[..] {
            [] => (1, false),
            [0] => (sizes[0], true),
            [a] if spatial.iter().all(|&s| s < a) => (sizes[a], false),
            _ => return Err(Error::unsupported(FORMAT, format!("this order of {} axes", sizes.len()))),
        };
        spatial.truncate(3);
        let dim = [0, 1, 2].map(|n| spatial.get(n).map_or(1, |&a| sizes[a]));
        let big_endian = match self.field("endian").map(str::to_ascii_lowercase).as_deref() {
            Some("big") => true,
            Some("little") => false,
            None if kind.bytes() == 1 || self.encoding()? == "ascii" => false,
            None => return Err(Error::malformed(FORMAT, "field \"endian\" is missing")),
            Some(other) => {
                return Err(Error::malformed(FORMAT, format!("endian is {other:?}, expected little or big")));
            }
        };
        let mut layout = Layout::new(FORMAT, kind, big_endian, dim, frames, space.affine, options)?;
        layout.interleaved = interleaved;
        Ok(layout)
    }

    fn kind(&self) -> Result<VoxelKind> {
        let text = self.required("type")?.to_ascii_lowercase();
        Ok(match text.as_str() {
            "signed char" | "int8" | "int8_t" => VoxelKind::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => VoxelKind::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => VoxelKind::I16,
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => VoxelKind::U16,
            "int" | "signed int" | "int32" | "int32_t" => VoxelKind::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => VoxelKind::U32,
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => VoxelKind::I64,
            "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => VoxelKind::U64,
            "float" => VoxelKind::F32,
            "double" => VoxelKind::F64,
            other => return Err(Error::unsupported(FORMAT, format!("type {other:?}"))),
        })
    }
}

struct Space {
    /// Axes of the array that run in space, in order.
    axes: Vec<usize>,
    affine: Affine,
}

impl Space {
    fn of(fields: &Fields, dimension: usize, warnings: &mut Vec<String>) -> Result<Self> {
        let signs = match fields.field("space").map(str::to_ascii_lowercase).as_deref() {
            Some("right-anterior-superior" | "ras") => [1.0, 1.0],
            Some("left-anterior-superior" | "las") => [-1.0, 1.0],
            Some("left-posterior-superior" | "lps") => [-1.0, -1.0],
            None => [-1.0, -1.0],
            Some(other) if other.ends_with("-time") => return Err(Error::unsupported(FORMAT, "a space with time")),
            Some(other) => {
                warnings.push(format!("space {other:?} has no sides of the patient; taken as left-posterior-superior"));
                [-1.0, -1.0]
            }
        };
        let vectors = fields.field("space directions").map(vectors).transpose()?;
        let kinds: Vec<&str> = fields.field("kinds").map(|k| k.split_whitespace().collect()).unwrap_or_default();
        let axes: Vec<usize> = match &vectors {
            Some(v) if v.len() != dimension => {
                return Err(Error::malformed(FORMAT, format!("{} space directions for {dimension} axes", v.len())));
            }
            Some(v) => (0..dimension).filter(|&a| v[a].is_some()).collect(),
            None if kinds.len() == dimension => (0..dimension)
                .filter(|&a| matches!(kinds[a].to_ascii_lowercase().as_str(), "domain" | "space" | "???" | "none"))
                .collect(),
            None => (0..dimension.min(3)).collect(),
        };
        if axes.is_empty() || axes.len() > 3 {
            return Err(Error::unsupported(FORMAT, format!("{} axes in space", axes.len())));
        }
        let mut columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        if let Some(vectors) = &vectors {
            for (n, &a) in axes.iter().enumerate() {
                for (r, v) in vectors[a].iter().flatten().take(3).enumerate() {
                    columns[n][r] = *v;
                }
                for r in vectors[a].as_ref().map_or(0, Vec::len)..3 {
                    columns[n][r] = 0.0;
                }
            }
            if axes.len() == 2 {
                let [u, v, _] = columns;
                let n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
                let length = n.iter().map(|x| x * x).sum::<f64>().sqrt();
                columns[2] = n.map(|x| x / length);
            }
        } else {
            if fields.field("space").is_none() {
                warnings.push("no orientation in the header: sides of the patient are a guess".into());
            }
            if let Some(text) = fields.field("spacings") {
                let spacings = number_text::numbers(FORMAT, "spacings", text)?;
                for (n, &a) in axes.iter().enumerate() {
                    if let Some(&s) = spacings.get(a).filter(|s| !s.is_nan()) {
                        columns[n][n] = s;
                    }
                }
            }
        }
        let mut origin = [0.0; 3];
        if let Some(text) = fields.field("space origin") {
            let found = vectors_in(text)?;
            for (r, v) in found.first().and_then(Option::as_ref).into_iter().flatten().take(3).enumerate() {
                origin[r] = if v.is_nan() { 0.0 } else { *v };
            }
        } else if let Some(text) = fields.field("axis mins") {
            let mins = number_text::numbers(FORMAT, "axis mins", text)?;
            for (n, &a) in axes.iter().enumerate() {
                origin[n] = mins.get(a).copied().filter(|v| !v.is_nan()).unwrap_or(0.0);
            }
        }
        let mut affine = Affine::from_columns(columns, origin);
        for (row, sign) in affine.rows.iter_mut().zip(signs) {
            if sign < 0.0 {
                *row = row.map(|v| 0.0 - v);
            }
        }
        Ok(Self { axes, affine })
    }
}

fn vectors(text: &str) -> Result<Vec<Option<Vec<f64>>>> {
    vectors_in(text)
}

/// `(1,0,0) none (0,1,0)`.
fn vectors_in(text: &str) -> Result<Vec<Option<Vec<f64>>>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('(') {
            let (inside, after) =
                after.split_once(')').ok_or_else(|| Error::malformed(FORMAT, "a vector has no closing bracket"))?;
            out.push(Some(number_text::numbers(FORMAT, "space directions", inside)?));
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix("none") {
            out.push(None);
            rest = after.trim_start();
        } else {
            return Err(Error::malformed(FORMAT, "space directions are neither vectors nor none"));
        }
    }
    Ok(out)
}
