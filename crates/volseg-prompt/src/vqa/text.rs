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

/// Joins an answer and a description, blanks collapsed. Each is cut at a word boundary to its share of the text tower's 256 pieces,
/// so that a long answer does not push the description out. `pieces` counts the word pieces of a text, without `[CLS]` and `[SEP]`.
/// `None` if both are missing: then there is no text token, which is not the token of an empty text.
///
/// ```
/// use volseg_prompt::vqa::prompt_text;
/// let words = |t: &str| t.split_whitespace().count();
/// let text = prompt_text(Some("Round,\n on the left."), Some("A gland."), words).unwrap();
/// assert_eq!((text.text.as_str(), text.clipped), ("Round, on the left. A gland.", false));
/// assert!(prompt_text(None, Some("  "), words).is_none());
/// ```
#[must_use]
pub fn prompt_text(
    answer: Option<&str>,
    description: Option<&str>,
    pieces: impl Fn(&str) -> usize,
) -> Option<PromptText> {
    let (answer, short) = clip(&one_line(answer.unwrap_or_default()), ANSWER_PIECES, &pieces);
    let (description, shorter) = clip(&one_line(description.unwrap_or_default()), DESCRIPTION_PIECES, &pieces);
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
        let text = prompt_text(Some(&long), Some("The liver."), words).unwrap();
        assert!(text.clipped && text.text.ends_with("The liver."));
        assert_eq!(words(&text.text), ANSWER_PIECES + 2);
        let text = prompt_text(None, Some(&long), words).unwrap();
        assert_eq!(words(&text.text), DESCRIPTION_PIECES);
        // A single word of too many pieces is lost whole.
        assert_eq!(prompt_text(Some("x"), None, |_| 500), None);
    }
}
