use std::collections::BTreeMap;

/// How the tensors of a file compare with those of an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fit {
    /// The architecture has it, the file does not.
    pub missing: Vec<String>,
    /// The file has it, the architecture does not.
    pub extra: Vec<String>,
    /// Both have it, in different shapes.
    pub misshaped: Vec<Misshaped>,
}

/// A tensor of another shape than the architecture's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Misshaped {
    /// Its name.
    pub name: String,
    /// Shape in the file.
    pub found: Vec<usize>,
    /// Shape in the architecture.
    pub expected: Vec<usize>,
}

impl Fit {
    /// Compares names and shapes.
    #[must_use]
    pub fn new(expected: &BTreeMap<String, Vec<usize>>, found: &BTreeMap<String, Vec<usize>>) -> Self {
        let mut fit = Self::default();
        for (name, shape) in expected {
            match found.get(name) {
                None => fit.missing.push(name.clone()),
                Some(s) if s != shape => {
                    let (found, expected) = (s.clone(), shape.clone());
                    fit.misshaped.push(Misshaped { name: name.clone(), found, expected });
                }
                Some(_) => {}
            }
        }
        fit.extra = found.keys().filter(|k| !expected.contains_key(*k)).cloned().collect();
        fit
    }

    /// Every tensor of the architecture is there; extra ones do not matter.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshaped.is_empty()
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = |list: Vec<String>| {
            let more = if list.len() > 3 { format!(" and {} more", list.len() - 3) } else { String::new() };
            list.iter().take(3).cloned().collect::<Vec<_>>().join(", ") + &more
        };
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing {}", some(self.missing.clone())));
        }
        if !self.misshaped.is_empty() {
            let shape = |m: &Misshaped| format!("{} is {:?}, expected {:?}", m.name, m.found, m.expected);
            parts.push(some(self.misshaped.iter().map(shape).collect()));
        }
        if !self.extra.is_empty() {
            parts.push(format!("extra {}", some(self.extra.clone())));
        }
        f.write_str(&if parts.is_empty() { "all tensors are there".into() } else { parts.join("; ") })
    }
}
