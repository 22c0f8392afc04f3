//! Images and label maps from files, for every command that reads them.

use crate::{exit::usage_error, global::Global};
use anyhow::Context;
use std::path::Path;
use volseg_geometry::{LabelMap, Window};
use volseg_io::{Error, Image, Limits, ReadOptions, Series};

/// `--window`: map of intensities to grey.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum WindowChoice {
    /// That of the modality.
    #[default]
    Auto,
    /// From the smallest to the largest value.
    None,
    /// Between two values.
    Range(f32, f32),
}

impl WindowChoice {
    /// The window, `None` for [`WindowChoice::Auto`].
    pub(crate) fn window(self) -> Option<Window> {
        match self {
            Self::Auto => None,
            Self::None => Some(Window::Percentile { low: 0.0, high: 100.0 }),
            Self::Range(low, high) => Some(Window::Range { low, high }),
        }
    }
}

impl std::str::FromStr for WindowChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = |(low, high): (&str, &str)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?));
        match (text, text.split_once(',').and_then(numbers)) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::None),
            (_, Some((low, high))) if f32::is_finite(low) && f32::is_finite(high) && low < high => {
                Ok(Self::Range(low, high))
            }
            _ => Err("expected auto, none, or two rising numbers such as -160,240".into()),
        }
    }
}

/// Which of the images of an input is meant.
#[derive(clap::Args)]
pub(crate) struct Pick {
    /// Series of a DICOM folder or archive: its number in the list, or its UID
    #[arg(long, value_name = "UID|N")]
    pub(crate) series: Option<String>,
    /// Volume of a file with several, from 0
    #[arg(long, value_name = "N")]
    pub(crate) frame: Option<usize>,
}

impl Pick {
    /// Everything else as usual, within `--memory`.
    pub(crate) fn options(&self, global: &Global) -> ReadOptions {
        let series = self.series.as_deref().map(Series::parse);
        ReadOptions {
            series,
            frame: self.frame,
            limits: Limits::within_memory(global.memory),
            ..ReadOptions::default()
        }
    }

    /// The image of an input.
    ///
    /// # Errors
    /// As [`read`]; a usage error for a series of what is no DICOM.
    pub(crate) fn image(&self, path: &Path, global: &Global) -> anyhow::Result<Image> {
        self.image_by(path, &self.options(global))
    }

    /// [`Pick::image`] with other options of its own.
    pub(crate) fn image_by(&self, path: &Path, options: &ReadOptions) -> anyhow::Result<Image> {
        let image = read(path, options)?;
        match image.format {
            Some(format) if self.series.is_some() && !format.starts_with("DICOM") => {
                Err(usage_error(format!("--series is for DICOM; {} is a {format} file", path.display())))
            }
            _ => Ok(image),
        }
    }
}

/// An image file, DICOM folder or archive.
pub(crate) fn image(path: &Path, series: Option<&str>) -> anyhow::Result<Image> {
    read(path, &ReadOptions { series: series.map(Series::parse), ..ReadOptions::default() })
}

/// [`image`] with all options.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> anyhow::Result<Image> {
    volseg_io::read(path, options).map_err(|e| {
        let memory = matches!(e, Error::Limit { .. }) && options.limits != Limits::default();
        let hint = if memory { " within --memory" } else { "" };
        anyhow::Error::from(e).context(format!("could not read {}{hint}", path.display()))
    })
}

/// A label map with ids 0 to 255, and the file that it stood in.
pub(crate) fn labels(path: &Path) -> anyhow::Result<(LabelMap, Image)> {
    let file = image(path, None)?.into_labels();
    if file.rgb().is_some() {
        return Err(usage_error(format!(
            "{} is a coloured picture; labels are one grey channel of ids, or a PNG whose palette has them",
            path.display()
        )));
    }
    let labels = file.to_label_map().with_context(|| format!("{} is no label map", path.display()))?;
    Ok((labels, file))
}

/// Labels on the grid of `image`: exact turns and flips are undone, any other difference is refused with its size.
pub(crate) fn on_grid_of(labels: LabelMap, image: &Image) -> anyhow::Result<LabelMap> {
    let (dim, affine) = (image.volume.dim(), image.volume.affine());
    // Pictures have no place in the world; there the stored pixels are all that counts.
    if image.is_picture() {
        if labels.dim() != dim {
            return Err(usage_error(format!("the labels have {:?} pixels, the image has {dim:?}", labels.dim())));
        }
        return Ok(labels);
    }
    let labels = if labels.affine().orientation() == affine.orientation() {
        labels
    } else {
        labels.reoriented(affine.orientation())
    };
    if labels.dim() != dim {
        return Err(usage_error(format!("the labels have {:?} voxels, the image has {dim:?}", labels.dim())));
    }
    if let Some(shift) = affine.shift_of_other_grid_mm(labels.affine(), dim) {
        return Err(usage_error(format!("labels and image lie {shift:.3} mm apart at a corner")))
            .context("the labels do not lie on the grid of the image");
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_two_rising_numbers() {
        assert_eq!("-160,240".parse(), Ok(WindowChoice::Range(-160.0, 240.0)));
        assert_eq!("none".parse(), Ok(WindowChoice::None));
        for bad in ["", "1", "3,2", "1,nan", "1,inf", "a,b", "1,2,3"] {
            assert!(bad.parse::<WindowChoice>().is_err(), "{bad}");
        }
    }
}
