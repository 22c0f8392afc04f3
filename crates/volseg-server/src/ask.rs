//! The fields of an inference request, checked.

use crate::{answers::MaskForm, refusal::Refusal};
use serde_json::{Map, Value};
use volseg_engine::{OpenCase, Prompt};
use volseg_geometry::{OrganId, PixelBox};

/// Points of one request.
const MAX_POINTS: usize = 1000;

/// `params` of an inference.
pub(crate) struct Ask<'a>(pub(crate) &'a Map<String, Value>);

/// Points and box in voxel indices of the image.
pub(crate) struct Hints {
    /// i, j, k and 1 inside or 0 outside.
    pub(crate) points: Vec<([usize; 3], f32)>,
    /// First and one past the last index along each axis.
    pub(crate) roi: Option<[[usize; 2]; 3]>,
}

impl Ask<'_> {
    /// Probability from which a voxel belongs to the mask.
    ///
    /// # Errors
    /// 422 outside 0 to 1.
    pub(crate) fn threshold(&self) -> Result<f32, Refusal> {
        match self.0.get("threshold").filter(|v| !v.is_null()) {
            None => Ok(0.5),
            Some(v) => v
                .as_f64()
                .filter(|t| *t > 0.0 && *t < 1.0)
                .map(|t| t as f32)
                .ok_or_else(|| Refusal::field("threshold is no number between 0 and 1")),
        }
    }

    /// Whether only the largest piece stays.
    pub(crate) fn keep_largest(&self) -> bool {
        self.0.get("keep_largest").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Checks the device.
    ///
    /// # Errors
    /// 422 for one that this server does not have.
    pub(crate) fn device(&self) -> Result<(), Refusal> {
        match self.0.get("device").and_then(Value::as_str) {
            None | Some("" | "auto" | "cpu") => Ok(()),
            _ => Err(Refusal::field("this server computes on the device auto or cpu")),
        }
    }

    /// Form of the answer; `default` is the ending where none is asked for.
    ///
    /// # Errors
    /// 422 for a form that is not written.
    pub(crate) fn form(&self, default: &str) -> Result<MaskForm, Refusal> {
        let asked = match self.0.get("result_extension").filter(|v| !v.is_null()) {
            None => default,
            Some(v) => v.as_str().ok_or_else(|| Refusal::field("result_extension is no text"))?,
        };
        let known = [".nrrd", ".nii.gz", ".nii", ".seg.nrrd", ".mha", ".png"];
        let ending = known
            .into_iter()
            .find(|k| *k == asked || k.strip_prefix('.') == Some(asked))
            .ok_or_else(|| Refusal::field(format!("result_extension is not one of {}", known.join(", "))))?;
        let wide = match self.0.get("result_dtype").and_then(Value::as_str) {
            None | Some("" | "uint8") => false,
            Some("uint16") => true,
            Some(_) => return Err(Refusal::field("result_dtype is neither uint8 nor uint16")),
        };
        let compressed = self.0.get("result_compress").and_then(Value::as_bool).unwrap_or(false);
        Ok(MaskForm { ending, wide, compressed })
    }

    /// Organs asked for by name: a list or a comma-separated text.
    ///
    /// # Errors
    /// 422 for a name that is not known.
    pub(crate) fn organs(&self) -> Result<Option<Vec<OrganId>>, Refusal> {
        let names: Vec<&str> = match self.0.get("organs") {
            Some(Value::String(text)) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => return Ok(None),
        };
        let parse = |n: &&str| n.parse::<OrganId>().map_err(|_| Refusal::field("organs holds an unknown name"));
        let organs = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok((!organs.is_empty()).then_some(organs))
    }

    /// The organ that the edited segment's name stands for, if the model knows it in this image.
    pub(crate) fn organ(&self, case: &OpenCase) -> Option<OrganId> {
        let organ = self.0.get("label")?.as_str()?.parse().ok()?;
        case.organs().contains(&organ).then_some(organ)
    }

    /// The slice of a click.
    ///
    /// # Errors
    /// 422 for a slice that is not there.
    pub(crate) fn slice(&self, slices: usize) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.0.get("slice").filter(|v| !v.is_null()) else { return Ok(None) };
        let bad = || Refusal::field(format!("slice is no whole number from 0 to {}", slices - 1));
        let k = value.as_f64().filter(|k| k.fract() == 0.0 && *k >= 0.0 && *k < slices as f64).ok_or_else(bad)?;
        Ok(Some(k as usize))
    }

    /// Points and box.
    ///
    /// # Errors
    /// 422 for points that are no three numbers or lie outside, for a box that does, and if there is neither.
    pub(crate) fn hints(&self, dim: [usize; 3]) -> Result<Hints, Refusal> {
        let mut points = Vec::new();
        for (key, inside) in [("foreground", 1.0), ("background", 0.0)] {
            let list = match self.0.get(key) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(list)) => list,
                Some(_) => return Err(Refusal::field(format!("{key} is no list of points"))),
            };
            for p in list {
                points.push((point(key, p, dim)?, inside));
            }
        }
        if points.len() > MAX_POINTS {
            return Err(Refusal::field(format!("more than {MAX_POINTS} points")));
        }
        let roi = match self.0.get("roi") {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(value) => Some(roi(value, dim)?),
        };
        if roi.is_none() && !points.iter().any(|p| p.1 > 0.5) {
            return Err(Refusal::field("give at least one point in foreground, or a roi"));
        }
        Ok(Hints { points, roi })
    }
}

impl Hints {
    /// The same with x, y and slice of a stack whose stored axes these are in the place of i, j, k.
    pub(crate) fn along(mut self, axes: [usize; 3]) -> Self {
        self.points.iter_mut().for_each(|(p, _)| *p = axes.map(|a| p[a]));
        self.roi = self.roi.map(|r| axes.map(|a| r[a]));
        self
    }

    /// The prompt of one slice; `None` if nothing is said there. `organ` names what is shown.
    pub(crate) fn on_slice(&self, k: usize, organ: Option<OrganId>) -> Option<Prompt> {
        let points: Vec<[f32; 3]> = self
            .points
            .iter()
            .filter(|(p, _)| p[2] == k)
            .map(|(p, inside)| [p[0] as f32, p[1] as f32, *inside])
            .collect();
        let inside_roi = |r: &[[usize; 2]; 3]| r[2][0] <= k && k < r[2][1];
        let bounds = self.roi.filter(inside_roi).map(|[i, j, _]| PixelBox {
            x0: i[0] as f32,
            y0: j[0] as f32,
            x1: i[1] as f32,
            y1: j[1] as f32,
        });
        let said = bounds.is_some() || points.iter().any(|p| p[2] > 0.5);
        let any = OrganId::new(1)?;
        said.then(|| Prompt {
            organ: organ.unwrap_or(any),
            named: organ.is_some(),
            slice: k,
            bounds,
            rough: false,
            points,
            text: None,
        })
    }

    /// Slices with an inside point, rising; for a box alone its middle slice.
    pub(crate) fn seeds(&self) -> Vec<usize> {
        let mut slices: Vec<usize> = self.points.iter().filter(|p| p.1 > 0.5).map(|p| p.0[2]).collect();
        if let (true, Some(roi)) = (slices.is_empty(), self.roi) {
            slices.push((roi[2][0] + roi[2][1] - 1) / 2);
        }
        slices.sort_unstable();
        slices.dedup();
        slices
    }
}

/// Three numbers, rounded to the nearest voxel.
fn point(key: &str, value: &Value, dim: [usize; 3]) -> Result<[usize; 3], Refusal> {
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|l| l.iter().map(Value::as_f64).collect());
    let Some(&[i, j, k]) = numbers.as_deref() else {
        return Err(Refusal::field(format!("a point of {key} is not three numbers i, j, k")));
    };
    let mut out = [0; 3];
    for ((o, v), n) in out.iter_mut().zip([i, j, k]).zip(dim) {
        let rounded = v.round();
        if !(rounded >= 0.0 && rounded < n as f64) {
            return Err(Refusal::field(format!(
                "the point {i}, {j}, {k} of {key} lies outside the image of {} x {} x {} voxels",
                dim[0], dim[1], dim[2]
            )));
        }
        *o = rounded as usize;
    }
    Ok(out)
}

/// `[i, i, j, j, k, k]`, either of a pair first, clipped to the image.
fn roi(value: &Value, dim: [usize; 3]) -> Result<[[usize; 2]; 3], Refusal> {
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|l| l.iter().map(Value::as_f64).collect());
    let numbers = numbers.filter(|n| n.len() == 6).ok_or_else(|| Refusal::field("roi is not six numbers"))?;
    let mut out = [[0; 2]; 3];
    for ((o, pair), n) in out.iter_mut().zip(numbers.chunks_exact(2)).zip(dim) {
        let (low, high) = (pair[0].min(pair[1]).round(), pair[0].max(pair[1]).round());
        if high < 0.0 || low > (n - 1) as f64 {
            return Err(Refusal::field("the roi lies outside the image"));
        }
        *o = [low.max(0.0) as usize, (high as usize).min(n - 1) + 1];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(value: Value) -> Result<Hints, Refusal> {
        Ask(value.as_object().unwrap()).hints([24, 20, 16])
    }

    #[test]
    fn points_are_rounded_and_boxes_sorted_and_clipped() {
        let hints =
            ask(json!({ "foreground": [[9.4, 7.6, 6]], "background": [[3, 3, 7]], "roi": [14, 5, 50, -4, 3, 10] }));
        let hints = hints.unwrap();
        assert_eq!(hints.roi, Some([[5, 15], [0, 20], [3, 11]]));
        let prompt = hints.on_slice(6, None).unwrap();
        assert_eq!(prompt.points, [[9.0, 8.0, 1.0]]);
        assert_eq!(hints.seeds(), [6]);
        assert!(hints.on_slice(12, None).is_none());
    }

    #[test]
    fn what_is_no_point_or_box_is_said() {
        for (value, part) in [
            (json!({ "foreground": [[1, 2]] }), "three numbers"),
            (json!({ "foreground": [[1, 2, "x"]] }), "three numbers"),
            (json!({ "foreground": 3 }), "list"),
            (json!({ "foreground": [[24, 2, 3]] }), "24 x 20 x 16"),
            (json!({ "foreground": [[-1, 2, 3]] }), "outside"),
            (json!({ "roi": [1, 2, 3] }), "six"),
            (json!({ "roi": [30, 40, 1, 2, 1, 2] }), "outside"),
            (json!({ "background": [[1, 2, 3]] }), "at least one"),
            (json!({}), "at least one"),
        ] {
            let refusal = ask(value.clone()).err().unwrap();
            assert!(refusal.status == 422 && refusal.detail.contains(part), "{value}: {}", refusal.detail);
        }
    }
}
