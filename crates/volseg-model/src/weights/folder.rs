use crate::Error;
use crate::embedded::SHIPPED_FILES;
use std::path::PathBuf;

/// Where weights are looked up by name: `$VOLSEG_WEIGHTS`, else `volseg/weights` in the user's data folder.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("VOLSEG_WEIGHTS").or_else(|| {
        let data = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")))?;
        Some(data.join("volseg/weights"))
    })
}

/// Names and paths of the weights in [`folder`], sorted.
#[must_use]
pub fn installed() -> Vec<(String, PathBuf)> {
    let Some(entries) = folder().and_then(|f| std::fs::read_dir(f).ok()) else { return Vec::new() };
    let mut list: Vec<(String, PathBuf)> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .filter_map(|p| Some((p.file_stem()?.to_str()?.to_owned(), p)))
        .collect();
    list.sort();
    list
}

/// The file that `--model` means: a path, or the name of weights in [`folder`].
///
/// # Errors
/// [`Error::InvalidArgument`] with the names there are.
pub fn find(model: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(model);
    if path.extension().is_some() || path.components().count() > 1 {
        return Ok(path);
    }
    let list = installed();
    list.iter().find(|(name, _)| name == model).map(|(_, path)| path.clone()).ok_or_else(|| {
        let mut names: Vec<&str> = list.iter().map(|(n, _)| n.as_str()).collect();
        names.splice(0..0, SHIPPED_FILES.map(|(name, _)| name));
        Error::InvalidArgument {
            what: "model",
            found: model.to_owned(),
            expected: format!("a file or one of: {}", names.join(", ")),
        }
    })
}
