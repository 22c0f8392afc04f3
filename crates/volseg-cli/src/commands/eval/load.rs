//! Label maps from files, and the checks that a viewer would not make.

use super::Plan;
use anyhow::{Context, bail};
use std::path::Path;
use volseg_geometry::AnyVolume;
use volseg_io::{Header, Image, ReadOptions};
use volseg_metrics::{Error, Labels};

/// Largest relative difference between the lengths of the affine's columns and `pixdim`.
const PIXDIM_TOLERANCE: f64 = 1e-3;

/// A label map and what its file says beside the voxels.
pub(super) struct Loaded {
    pub(super) labels: Labels,
    /// A picture: it has no place in space, and its spacing is pixels.
    pub(super) picture: bool,
    /// Ids with their names, if the file holds them.
    pub(super) names: Vec<(u32, String)>,
    pub(super) warnings: Vec<String>,
}

/// Reads a label map of at most `most` bytes; `which` of the case's maps it is, for errors: paths do not belong into reports.
pub(super) fn load(path: &Path, which: &str, plan: &Plan, most: Option<u64>) -> anyhow::Result<Loaded> {
    let own_spacing = plan.settings.spacing.is_some();
    let mut options = ReadOptions { digest: false, check_grid: !own_spacing, ..ReadOptions::default() };
    if let Some(most) = most {
        let l = &mut options.limits;
        [&mut l.max_voxels, &mut l.max_file_bytes, &mut l.max_inflated_bytes].into_iter().for_each(|l| *l = most.min(*l));
    }
    let image = volseg_io::read(path, &options).with_context(|| format!("{which} cannot be read"))?.into_labels();
    let mut warnings = image.warnings.clone();
    if !own_spacing {
        warnings.extend(pixdim(&image).with_context(|| format!("{which} cannot be measured"))?);
    }
    if image.rgb().is_some() {
        bail!("{which} is a coloured picture, expected one grey channel of label ids, or a PNG whose palette has them");
    }
    let picture = image.is_picture();
    // Editors number what nobody named: Segment_1.
    let placeholder = |name: &str| {
        name.strip_prefix("Segment").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || " _".contains(c)))
    };
    let named = image.labels.iter().filter(|l| !placeholder(&l.name));
    let names = named.map(|l| (l.value, l.name.clone())).collect();
    let volume = if picture { two_values(image.volume) } else { image.volume };
    Ok(Loaded { labels: Labels::new(volume, image.slope, image.intercept, which)?, picture, names, warnings })
}

/// Refuses a `pixdim` that is no length, even where the affine is usable: the two disagree on what a millimetre is.
fn pixdim(image: &Image) -> Result<Option<String>, Error> {
    let Header::Nifti(header) = &image.header else { return Ok(None) };
    let dim = image.volume.dim();
    let unit = header.millimetres();
    // Axes of one voxel are often left at 0.
    let size = [0, 1, 2].map(|a| match header.pixdim[a + 1] {
        0.0 if dim[a] == 1 => 1.0,
        length => length * unit,
    });
    if let Some(axis) = size.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(Error::Spacing { axis, found: size[axis] });
    }
    let used = image.volume.affine().spacing_mm();
    let differ = (0..3).any(|a| dim[a] > 1 && (used[a] / size[a] - 1.0).abs() > PIXDIM_TOLERANCE);
    Ok(differ.then(|| format!("the spacing of the affine is used, {used:?} mm; pixdim says {size:?}")))
}

/// Masks of values {0, 255} are read as {0, 1}.
fn two_values(volume: AnyVolume) -> AnyVolume {
    match volume {
        AnyVolume::U8(mut v) if v.voxels().iter().all(|&p| p == 0 || p == 255) => {
            v.voxels_mut().iter_mut().for_each(|p| *p = (*p).min(1));
            v.into()
        }
        other => other,
    }
}
