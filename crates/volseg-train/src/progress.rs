//! What a caller may show while a training runs.

/// Takes what a training has to say.
pub trait Progress {
    /// A line for people.
    fn line(&mut self, text: &str);
}
