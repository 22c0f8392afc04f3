use crate::canvas::{Canvas, LINE, text_width};
use volseg_geometry::OrganId;

/// Space between the swatch, the name and the amount.
const SPACE: usize = 10;
/// Height of an entry.
const ENTRY: usize = LINE + 6;
const TEXT: [u8; 3] = [225, 228, 232];

/// Name and colour of a label: the organ's, or a number and a colour of its own for ids that are no organs of ours.
#[must_use]
pub fn colour(label: u8) -> (String, [u8; 3]) {
    if let Some(id) = OrganId::new(label) {
        return (id.organ().prompt.to_owned(), id.organ().rgb);
    }
    // Steps of the golden angle: neighbouring numbers get hues that are far apart.
    let hue = f32::from(label) * 137.508 % 360.0 / 60.0;
    let part = |shift: f32| {
        let k = (shift + hue) % 6.0;
        (255.0 * (0.95 - 0.65 * k.min(4.0 - k).clamp(0.0, 1.0))).round() as u8
    };
    (format!("label {label}"), [part(5.0), part(3.0), part(1.0)])
}

/// A line of the legend.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) rgb: [u8; 3],
    pub(crate) amount: String,
}

/// Width and height that the entries take.
pub(crate) fn size(entries: &[Entry]) -> (usize, usize) {
    let widest = |f: fn(&Entry) -> &str| entries.iter().map(|e| text_width(f(e))).max().unwrap_or(0);
    if entries.is_empty() {
        return (0, 0);
    }
    (LINE + widest(|e| &e.name) + widest(|e| &e.amount) + 2 * SPACE, entries.len() * ENTRY)
}

/// Draws the entries below each other from (x, y).
pub(crate) fn draw(canvas: &mut Canvas, x: usize, y: usize, entries: &[Entry]) {
    let right = x + size(entries).0;
    for (n, entry) in entries.iter().enumerate() {
        let top = y + n * ENTRY;
        canvas.fill(x, top + 1, LINE - 2, LINE - 2, entry.rgb);
        canvas.text(x + LINE + SPACE, top, &entry.name, TEXT);
        canvas.text(right.saturating_sub(text_width(&entry.amount)), top, &entry.amount, TEXT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organs_have_their_colours_and_strangers_get_distinct_ones() {
        assert_eq!(colour(6), ("liver".to_owned(), [221, 130, 101]));
        let strangers: std::collections::BTreeSet<_> = (21..=255u8).map(|l| colour(l).1).collect();
        assert!(strangers.len() > 200, "{}", strangers.len());
    }
}
