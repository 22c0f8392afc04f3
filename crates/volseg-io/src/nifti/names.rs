//! Label names in a header extension, in the form that TotalSegmentator and Connectome Workbench share.

use super::FORMAT;
use crate::{Error, LabelName, Result};
use std::fmt::Write;

/// Looks for a label table in the extensions. Extensions of other content are passed over.
///
/// # Errors
/// [`Error::Malformed`] if an extension's size cannot be.
pub(super) fn read(mut bytes: &[u8], big_endian: bool) -> Result<Vec<LabelName>> {
    while let Some(size) = bytes.first_chunk::<4>() {
        let size = if big_endian { i32::from_be_bytes(*size) } else { i32::from_le_bytes(*size) };
        if size == 0 {
            break;
        }
        let Some((extension, rest)) =
            usize::try_from(size).ok().filter(|&s| s >= 8).and_then(|s| bytes.split_at_checked(s))
        else {
            return Err(Error::malformed(FORMAT, format!("a header extension of {size} bytes in {}", bytes.len())));
        };
        let names =
            std::str::from_utf8(&extension[8..]).map(|t| parse(t.trim_end_matches('\0').trim())).unwrap_or_default();
        if !names.is_empty() {
            return Ok(names);
        }
        bytes = rest;
    }
    Ok(Vec::new())
}

fn parse(text: &str) -> Vec<LabelName> {
    let Ok(document) = roxmltree::Document::parse(text) else { return Vec::new() };
    document
        .descendants()
        .filter(|n| n.has_tag_name("Label"))
        .filter_map(|n| {
            let part = |name| n.attribute(name).and_then(|v| v.parse::<f64>().ok());
            let rgb = [part("Red"), part("Green"), part("Blue")]
                .map(|v| v.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
            Some(LabelName {
                value: n.attribute("Key")?.parse().ok()?,
                name: n.text()?.trim().to_owned(),
                rgb: if let [Some(r), Some(g), Some(b)] = rgb { Some([r, g, b]) } else { None },
            })
        })
        .collect()
}

/// The extension for some names, its size and code included; padded to 16 bytes.
pub(super) fn write(names: &[LabelName]) -> Vec<u8> {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?> <CaretExtension>  <VolumeInformation Index=\"0\">   <LabelTable>\n",
    );
    for LabelName { value, name, rgb } in names {
        let [r, g, b] = rgb.unwrap_or([255; 3]).map(|v| f64::from(v) / 255.0);
        let name = name.replace("]]>", "");
        let _ = writeln!(
            xml,
            "<Label Key=\"{value}\" Red=\"{r}\" Green=\"{g}\" Blue=\"{b}\" Alpha=\"1\"><![CDATA[{name}]]></Label>"
        );
    }
    xml.push_str("   </LabelTable>  <StudyMetaDataLinkSet>  </StudyMetaDataLinkSet>  <VolumeType><![CDATA[Label]]></VolumeType>   </VolumeInformation></CaretExtension>");
    let size = (8 + xml.len()).next_multiple_of(16);
    let mut bytes = (size as i32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&0i32.to_le_bytes());
    bytes.extend_from_slice(xml.as_bytes());
    bytes.resize(size, 0);
    bytes
}
