/// Most word pieces of an answer in a prompt's text.
pub const ANSWER_PIECES: usize = 120;

/// Most word pieces of a description in a prompt's text.
pub const DESCRIPTION_PIECES: usize = 130;

/// The text of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptText {
    /// Answer, then description, in one line.
    pub text: String,
    /// A part was too long for the text tower and lost its end.
    pub clipped: bool,
}

/// Joins an answer and a description, blanks collapsed. Each is cut at a word boundary to its share of the text tower's `room` (256
/// pieces of BiomedCLIP, fewer of smaller towers, two of them for `[CLS]` and `[SEP]`), so that a long answer does not push the
/// description out. `pieces` counts the word pieces of a text, however long. `None` if both are missing: then there is no text token,
/// which is not the token of an empty text.
///
/// ```
/// use volseg_prompt::vqa::prompt_text;
/// let words = |t: &str| t.split_whitespace().count();
/// let text = prompt_text(Some("Round,\n on the left."), Some("A gland."), 256, words).unwrap();
/// assert_eq!((text.text.as_str(), text.clipped), ("Round, on the left. A gland.", false));
/// assert!(prompt_text(None, Some("  "), 256, words).is_none());
/// ```
#[must_use]
pub fn prompt_text(
    answer: Option<&str>,
    description: Option<&str>,
    room: usize,
    pieces: impl Fn(&str) -> usize,
) -> Option<PromptText> {
    let room = room.saturating_sub(2);
    let (description, shorter) =
        clip(&one_line(description.unwrap_or_default()), DESCRIPTION_PIECES.min(room), &pieces);
    let left = room.saturating_sub(pieces(&description));
    let (answer, short) = clip(&one_line(answer.unwrap_or_default()), ANSWER_PIECES.min(left), &pieces);
    let text = one_line(&format!("{answer} {description}"));
    (!text.is_empty()).then_some(PromptText { text, clipped: short || shorter })
}

/// Blanks, line breaks and control characters as single blanks, none at the ends.
pub(super) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The longest start of whole words within `most` pieces, and whether something was lost. Pieces grow with words, so halving finds it.
fn clip(text: &str, most: usize, pieces: &impl Fn(&str) -> usize) -> (String, bool) {
    if pieces(text) <= most {
        return (text.to_owned(), false);
    }
    let ends: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
    let fitting = ends.partition_point(|&end| pieces(&text[..end]) <= most);
    let end = fitting.checked_sub(1).map_or(0, |n| ends[n]);
    (text[..end].to_owned(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_keeps_its_share() {
        let words = |t: &str| t.split_whitespace().count();
        let long = "word ".repeat(400);
        let text = prompt_text(Some(&long), Some("The liver."), 256, words).unwrap();
        assert!(text.clipped && text.text.ends_with("The liver."));
        assert_eq!(words(&text.text), ANSWER_PIECES + 2);
        let text = prompt_text(None, Some(&long), 256, words).unwrap();
        assert_eq!(words(&text.text), DESCRIPTION_PIECES);
        // A smaller tower reads the description whole and what is left of the answer.
        let text = prompt_text(Some(&long), Some("The liver."), 20, words).unwrap();
        assert!(text.clipped && text.text.ends_with("word The liver.") && words(&text.text) == 18);
        // A single word of too many pieces is lost whole.
        assert_eq!(prompt_text(Some("x"), None, 256, |t| 500 * t.len()), None);
    }
}
