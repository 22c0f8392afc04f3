//! The command line that Slicer writes: a value always follows its option, even when it starts with `-`.

use crate::{exit::usage_error, slicer::progress::say};
use anyhow::Context;
use std::{ffi::OsString, path::PathBuf};
use volseg_geometry::{Modality, OrganId};

/// A box as Slicer sends it: LPS mm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Region {
    /// Centre.
    pub(crate) centre: [f64; 3],
    /// Half sizes along its axes.
    pub(crate) half: [f64; 3],
    /// Rows of the matrix whose columns are its axes.
    pub(crate) axes: [[f64; 3]; 3],
}

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    /// `None` is automatic.
    pub(crate) model: Option<String>,
    pub(crate) model_dir: Option<PathBuf>,
    pub(crate) modality: Option<Modality>,
    pub(crate) organs: Vec<OrganId>,
    /// LPS mm, 1 inside or 0 outside.
    pub(crate) points: Vec<([f64; 3], f32)>,
    pub(crate) boxes: Vec<Region>,
    pub(crate) prior: Option<PathBuf>,
    pub(crate) threads: usize,
    pub(crate) threshold: f32,
    pub(crate) keep_largest: bool,
    pub(crate) volumes: Option<PathBuf>,
    pub(crate) returns: Option<PathBuf>,
}

impl Arguments {
    /// Reads the command line. Options that are not known are named on standard output and passed over.
    ///
    /// # Errors
    /// A usage error that names the option and what it takes.
    pub(crate) fn parse(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut out = Self { threshold: 0.5, ..Self::default() };
        let mut places = Vec::new();
        let mut rest = arguments.into_iter().peekable();
        while let Some(argument) = rest.next() {
            let Some(name) = argument.to_str().and_then(|a| a.strip_prefix("--")).map(ToOwned::to_owned) else {
                places.push(PathBuf::from(argument));
                continue;
            };
            let (name, attached) = match name.split_once('=') {
                Some((n, v)) => (n.replace('-', "_"), Some(OsString::from(v))),
                None => (name.replace('-', "_"), None),
            };
            if name == "keep_largest" {
                out.keep_largest = true;
                continue;
            }
            if !KNOWN.contains(&name.as_str()) {
                say(&format!("The option --{name} is not known and was ignored."));
                // Two files end the line; what stands before them belongs to the option.
                let left = rest.len();
                if attached.is_none() && left > 2 && rest.peek().is_some_and(|v| !v.to_string_lossy().starts_with("--"))
                {
                    rest.next();
                }
                continue;
            }
            let value = attached.or_else(|| rest.next());
            let value = value.ok_or_else(|| usage_error(format!("--{name} needs a value")))?;
            out.take(&name, value).with_context(|| format!("--{name} cannot be used"))?;
        }
        let [input, output] = <[PathBuf; 2]>::try_from(places).map_err(|p| {
            usage_error(format!("found {} files, expected two: input volume and output segmentation", p.len()))
        })?;
        (out.input, out.output) = (input, output);
        Ok(out)
    }

    fn take(&mut self, name: &str, value: OsString) -> anyhow::Result<()> {
        let path = || (!value.is_empty()).then(|| PathBuf::from(&value));
        match name {
            "model_dir" => self.model_dir = path(),
            "prior_mask" => self.prior = path(),
            "volumes" => self.volumes = path(),
            "returnparameterfile" => self.returns = path(),
            "processinformationaddress" => {}
            _ => {
                let text = value.to_str().ok_or_else(|| usage_error("the value is not UTF-8"))?.trim();
                self.text(name, text)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let chosen = !text.is_empty() && text != "auto";
        let usage = |e: volseg_geometry::Error| usage_error(e.to_string());
        match name {
            "model" => self.model = chosen.then(|| text.to_owned()),
            "modality" => self.modality = chosen.then(|| text.parse()).transpose().map_err(usage)?,
            "organs" => {
                for organ in text.split(',').map(str::trim).filter(|o| !o.is_empty()) {
                    self.organs.push(organ.parse().map_err(usage)?);
                }
                self.organs.sort();
                self.organs.dedup();
            }
            "foreground" | "background" => {
                let [x, y, z] = numbers(text)
                    .and_then(|n| <[f64; 3]>::try_from(n).ok())
                    .ok_or_else(|| usage_error(format!("found {text}, expected three numbers x,y,z in mm")))?;
                self.points.push(([x, y, z], if name == "foreground" { 1.0 } else { 0.0 }));
            }
            "box" => self.boxes.push(region(text)?),
            "device" if chosen && text != "cpu" => {
                return Err(usage_error(format!("found {text}: this build computes on the CPU; choose auto or cpu")));
            }
            "device" => {}
            "threads" => {
                let most = 256;
                let n = text.parse::<usize>().ok().filter(|n| *n <= most);
                self.threads = n.ok_or_else(|| usage_error(format!("found {text}, expected 0 to {most}")))?;
            }
            _ => {
                let t = text.parse::<f32>().ok().filter(|t| (0.0..=1.0).contains(t));
                let t = t.ok_or_else(|| usage_error(format!("found {text}, expected 0 to 1")))?;
                // At the very ends everything or nothing would be inside.
                self.threshold = t.clamp(0.001, 0.999);
            }
        }
        Ok(())
    }
}

const KNOWN: [&str; 14] = [
    "model",
    "model_dir",
    "modality",
    "organs",
    "foreground",
    "background",
    "box",
    "prior_mask",
    "device",
    "threads",
    "threshold",
    "volumes",
    "returnparameterfile",
    "processinformationaddress",
];

fn numbers(text: &str) -> Option<Vec<f64>> {
    let parse = |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    text.split(',').map(parse).collect()
}

fn region(text: &str) -> anyhow::Result<Region> {
    let bad =
        || usage_error(format!("found {text}, expected 6 numbers (centre and half sizes in mm) or 15 (and its axes)"));
    let n = numbers(text).filter(|n| n.len() == 6 || n.len() == 15).ok_or_else(bad)?;
    let at = |i: usize| n.get(i).copied().unwrap_or_default();
    let axes = if n.len() == 15 {
        [0, 1, 2].map(|r| [0, 1, 2].map(|c| at(6 + 3 * r + c)))
    } else {
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    };
    Ok(Region { centre: [at(0), at(1), at(2)], half: [at(3).abs(), at(4).abs(), at(5).abs()], axes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> anyhow::Result<Arguments> {
        Arguments::parse(list.iter().map(OsString::from).collect())
    }

    #[test]
    fn a_line_of_slicers_is_read() {
        let a = parse(&[
            "--returnparameterfile",
            "/tmp/Slicer/3412_Ab3dEf9.params",
            "--model",
            "auto",
            "--modality",
            "",
            "--organs",
            "liver,spleen",
            "--foreground",
            "-10.5,2,3",
            "--foreground",
            "-1,-2,1e-07",
            "--box",
            "-1,-2,3,4,5,6",
            "--unknown_option",
            "7",
            "--device",
            "auto",
            "--threads",
            "0",
            "--threshold",
            "0.5",
            "--keep_largest",
            "--processinformationaddress",
            "0x1",
            "/a b/BJD_Node.nrrd",
            "/tmp/ö.seg.nrrd",
        ])
        .unwrap();
        assert_eq!(a.points, [([-10.5, 2.0, 3.0], 1.0), ([-1.0, -2.0, 1e-07], 1.0)]);
        assert_eq!(a.boxes[0].half, [4.0, 5.0, 6.0]);
        assert_eq!((a.organs.len(), a.keep_largest, a.model.is_none()), (2, true, true));
        assert_eq!((a.input, a.output), ("/a b/BJD_Node.nrrd".into(), "/tmp/ö.seg.nrrd".into()));
    }

    #[test]
    fn turned_boxes_have_fifteen_numbers() {
        let a = parse(&["--box", "0,0,0,1,2,3,0,1,0,-1,0,0,0,0,1", "a", "b"]).unwrap();
        assert_eq!(a.boxes[0].axes, [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        for (list, part) in [
            (&["--foreground", "1,2", "a", "b"][..], "three numbers"),
            (&["--box", "1,2,3", "a", "b"], "15"),
            (&["--organs", "soul", "a", "b"], "expected spleen"),
            (&["--threshold", "2", "a", "b"], "0 to 1"),
            (&["--device", "cuda", "a", "b"], "CPU"),
            (&["a"], "two"),
        ] {
            let error = parse(list).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
