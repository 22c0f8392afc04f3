use super::Layer;
use std::path::PathBuf;
use volseg_io::{AtomicFile, sha256};

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"VSFEAT1\n";
/// Hexadecimal digest behind the numbers.
const DIGEST: usize = 64;

/// Features of masked pictures on disk, one small file a picture, named by what they were made from: the network's input,
/// the weights and the layer. The files hold no pixels and no names.
#[derive(Clone, Debug, Default)]
pub struct FeatureCache {
    folder: Option<PathBuf>,
    weights: String,
}

impl FeatureCache {
    /// In `folder`, which is made when needed; `None` keeps nothing. `weights` is the digest of the model.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, weights: &str) -> Self {
        Self { folder, weights: weights.to_owned() }
    }

    fn path(&self, image: &[f32], layer: Layer) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let mut bytes: Vec<u8> = image.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.extend(format!("{} {}", self.weights, layer.name()).bytes());
        Some(folder.join(format!("{}.features", sha256(&bytes))))
    }

    /// Features of the channels that are known; anything that is not as it was written counts as unknown.
    pub(super) fn load(&self, image: &[f32], layer: Layer, channels: usize, embed: usize) -> Vec<Option<Vec<f32>>> {
        let read = || {
            let bytes = std::fs::read(self.path(image, layer)?).ok()?;
            if bytes.len() != MAGIC.len() + channels + 4 * channels * embed + DIGEST {
                return None;
            }
            let (content, digest) = bytes.split_at(bytes.len() - DIGEST);
            if !content.starts_with(MAGIC) || sha256(content).as_bytes() != digest {
                return None;
            }
            let (flags, numbers) = content[MAGIC.len()..].split_at(channels);
            let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let rows = numbers.chunks_exact(4 * embed).map(|r| r.chunks_exact(4).map(value).collect());
            Some(flags.iter().zip(rows).map(|(f, row)| (*f == 1).then_some(row)).collect())
        };
        read().unwrap_or_else(|| vec![None; channels])
    }

    /// Keeps what is known. A full disk or a folder without permission only costs time later.
    pub(super) fn store(&self, image: &[f32], layer: Layer, embed: usize, known: &[Option<Vec<f32>>]) {
        let Some(path) = self.path(image, layer) else { return };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(known.iter().map(|k| u8::from(k.is_some())));
        let absent = vec![0f32; embed];
        for row in known {
            bytes.extend(row.as_ref().unwrap_or(&absent).iter().flat_map(|v| v.to_le_bytes()));
        }
        let digest = sha256(&bytes);
        bytes.extend(digest.bytes());
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = AtomicFile::write(&path, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_unless_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(Some(folder.path().join("new")), "abc");
        let (image, layer) = ([0.5f32, 1.0], Layer::Norm1Patch);
        let known = vec![Some(vec![1.0, 2.0]), None, Some(vec![-3.0, 0.25])];
        cache.store(&image, layer, 2, &known);
        assert_eq!(cache.load(&image, layer, 3, 2), known);
        let nothing = vec![None; 3];
        assert_eq!(cache.load(&[0.5, 1.5], layer, 3, 2), nothing);
        assert_eq!(cache.load(&image, Layer::Norm2Cls, 3, 2), nothing);
        assert_eq!(FeatureCache::new(Some(folder.path().join("new")), "abd").load(&image, layer, 3, 2), nothing);
        let file = cache.path(&image, layer).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(cache.load(&image, layer, 3, 2), nothing);
    }
}
