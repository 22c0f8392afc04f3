use super::{FORMAT, fields::Fields};
use crate::{Error, LabelName, Result};
use std::fmt::Write;
use volseg_geometry::{Affine, AnyVolume, Code, Organ, OrganId, Volume};

/// Segments of a `.seg.nrrd`, in the order of the file.
pub(super) struct Segments(Vec<Segment>);

struct Segment {
    name: String,
    value: u32,
    layer: usize,
    rgb: Option<[u8; 3]>,
}

impl Segments {
    pub(super) fn of(fields: &Fields) -> Result<Self> {
        let mut out = Vec::new();
        for n in 0usize.. {
            let key = |name: &str| fields.keys.get(&format!("Segment{n}_{name}")).map(|v| v.trim());
            let Some(id) = key("ID") else { break };
            let whole = |name: &str, absent: u32| match key(name) {
                None => Ok(absent),
                Some(v) => v
                    .parse::<u32>()
                    .map_err(|_| Error::malformed(FORMAT, format!("Segment{n}_{name} is no whole number"))),
            };
            let rgb: Vec<f64> = key("Color").unwrap_or("").split_whitespace().filter_map(|v| v.parse().ok()).collect();
            out.push(Segment {
                name: key("Name").unwrap_or(id).to_owned(),
                value: whole("LabelValue", n as u32 + 1)?,
                layer: whole("Layer", 0)? as usize,
                rgb: if let [r, g, b] = rgb[..] {
                    Some([r, g, b].map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8))
                } else {
                    None
                },
            });
        }
        Ok(Self(out))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names by value; `joined`: values are places in the list, from 1.
    pub(super) fn names(&self, joined: bool) -> Vec<LabelName> {
        let value = |n: usize, s: &Segment| if joined { n as u32 + 1 } else { s.value };
        self.0
            .iter()
            .enumerate()
            .map(|(n, s)| LabelName { value: value(n, s), name: s.name.clone(), rgb: s.rgb })
            .collect()
    }

    /// One map of several layers: the n-th segment gets the value n, later segments lie above earlier ones.
    pub(super) fn join(
        &self,
        layers: &[AnyVolume],
        dim: [usize; 3],
        affine: Affine,
        warnings: &mut Vec<String>,
    ) -> Result<AnyVolume> {
        if self.0.len() > 255 {
            return Err(Error::unsupported(FORMAT, format!("{} segments in layers", self.0.len())));
        }
        let mut out = crate::voxels::zeros::<u8>(dim.iter().product())?;
        let mut covered = 0usize;
        for (n, s) in self.0.iter().enumerate() {
            let layer = layers.get(s.layer).ok_or_else(|| {
                Error::malformed(FORMAT, format!("segment {n} is in layer {}, of {}", s.layer, layers.len()))
            })?;
            for (v, o) in out.iter_mut().enumerate() {
                if layer.value(v) == f64::from(s.value) {
                    covered += usize::from(*o != 0);
                    *o = n as u8 + 1;
                }
            }
        }
        if covered > 0 {
            warnings.push(format!("segments overlap in {covered} voxels; the later one counts"));
        }
        Ok(Volume::from_vec(out, dim, affine)?.into())
    }
}

const CONTEXT: &str = "Segmentation category and type - 3D Slicer General Anatomy list";
const REGIONS: &str = "Anatomic codes - DICOM master list";

/// The header lines of the segments (specs: slicer.md A6). `extents` are first and last index along each axis by value.
pub(super) fn lines(
    organs: &[OrganId],
    names: &[LabelName],
    extents: &dyn Fn(u32) -> Option<[[usize; 2]; 3]>,
    present: &[u32],
) -> String {
    let mut out = String::from(
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|\nSegmentation_MasterRepresentation:=Binary labelmap\n\
         Segmentation_SourceRepresentation:=Binary labelmap\nSegmentation_ReferenceImageExtentOffset:=0 0 0\n",
    );
    let mut listed: Vec<(u32, String, String, [u8; 3], Option<&'static Organ>)> = organs
        .iter()
        .map(|id| {
            (
                u32::from(id.get()),
                id.organ().name.to_owned(),
                id.organ().prompt.to_owned(),
                id.organ().rgb,
                Some(id.organ()),
            )
        })
        .collect();
    for n in names.iter().filter(|n| n.value != 0) {
        if !listed.iter().any(|l| l.0 == n.value) {
            let organ = n.name.parse::<OrganId>().ok().map(OrganId::organ);
            listed.push((
                n.value,
                format!("{}_{}", token(&n.name), n.value),
                n.name.clone(),
                n.rgb.unwrap_or_else(|| colour(n.value)),
                organ,
            ));
        }
    }
    // Values without a name would be lost in Slicer.
    for &value in present.iter().filter(|&&v| v != 0) {
        if !listed.iter().any(|l| l.0 == value) {
            listed.push((value, format!("segment_{value}"), format!("Segment {value}"), colour(value), None));
        }
    }
    for (n, (value, id, name, rgb, organ)) in listed.iter().enumerate() {
        let [r, g, b] = rgb.map(|v| f64::from(v) / 255.0);
        let extent = extents(*value).map_or_else(
            || "0 -1 0 -1 0 -1".to_owned(),
            |e| e.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        );
        let name = name.replace(['\n', '\r'], " ");
        let _ = write!(
            out,
            "Segment{n}_ID:={id}\nSegment{n}_Name:={name}\nSegment{n}_NameAutoGenerated:=0\nSegment{n}_Color:={r:.6} {g:.6} {b:.6}\n\
             Segment{n}_ColorAutoGenerated:=0\nSegment{n}_LabelValue:={value}\nSegment{n}_Layer:=0\nSegment{n}_Extent:={extent}\n\
             Segment{n}_Tags:={}\n",
            organ.map_or(String::new(), |o| format!("TerminologyEntry:{}|", terminology(o)))
        );
    }
    out
}

fn terminology(organ: &Organ) -> String {
    let triple = |c: Code| format!("SCT^{}^{}", c.value, c.meaning);
    let side = organ.laterality.map_or_else(|| "^^".to_owned(), triple);
    format!("{CONTEXT}~{}~{}~{side}~{REGIONS}~^^~^^", triple(organ.category), triple(organ.code))
}

fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// A colour for a value without one: hues a golden angle apart.
pub(crate) fn colour(value: u32) -> [u8; 3] {
    let hue = (f64::from(value) * 0.618_033_988_75).fract() * 6.0;
    [5.0, 3.0, 1.0].map(|n| {
        let k: f64 = (n + hue) % 6.0;
        (255.0 * (0.9 - 0.55 * k.min(4.0 - k).clamp(0.0, 1.0))).round() as u8
    })
}

/// First and last index along each axis of every value.
pub(super) fn extents(labels: &[u32], dim: [usize; 3]) -> std::collections::BTreeMap<u32, [[usize; 2]; 3]> {
    let mut out = std::collections::BTreeMap::new();
    let row = dim[0].max(1);
    for (r, line) in labels.chunks(row).enumerate() {
        let (j, k) = (r % dim[1].max(1), r / dim[1].max(1));
        let mut at = 0;
        // Runs of one value: a lookup a run, not a voxel.
        for run in line.chunk_by(|a, b| a == b) {
            let ends = [[at, at + run.len() - 1], [j, j], [k, k]];
            at += run.len();
            if run[0] == 0 {
                continue;
            }
            let e = out.entry(run[0]).or_insert(ends);
            for (old, new) in e.iter_mut().zip(ends) {
                *old = [old[0].min(new[0]), old[1].max(new[1])];
            }
        }
    }
    out
}
