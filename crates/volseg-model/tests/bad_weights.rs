//! Files that must be refused with a clear error, all made here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use volseg_model::Error;
use volseg_model::config::{Arch, SamConfig};
use volseg_model::sam::SamModel;
use volseg_model::weights::{ImportOptions, WeightsFile, import};
use zip::write::SimpleFileOptions;

fn tiny() -> SamConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sam_tiny");
    SamConfig::from_json(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

fn options() -> ImportOptions {
    ImportOptions { config: Some(tiny()), ..ImportOptions::default() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
    /// Imports and checks that nothing is left behind on failure.
    fn import(&self, bytes: &[u8]) -> Result<SamModel, Error> {
        let before = std::fs::read_dir(self.0.path()).unwrap().count();
        let (from, to) = (self.file("in", bytes), self.0.path().join("out.safetensors"));
        let result = import(&from, &to, &options()).and_then(|_| SamModel::load(&to));
        std::fs::remove_file(from).unwrap();
        if result.is_err() {
            assert_eq!(std::fs::read_dir(self.0.path()).unwrap().count(), before, "a file was left behind");
        } else {
            std::fs::remove_file(to).unwrap();
        }
        result
    }
}

fn refused(result: Result<SamModel, Error>, words: &str) {
    let error = result.err().unwrap_or_else(|| panic!("was taken, expected an error with {words:?}"));
    assert!(error.to_string().contains(words), "{error:?} does not say {words:?}");
}

/// A safetensors file of a header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Safetensors of the tiny model, one entry changed.
fn model(change: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>, &mut &str) -> bool) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, mut shape) in tiny().tensors() {
        let mut bytes: Vec<u8> =
            (0..shape.iter().product()).flat_map(|i: usize| (i as f32 * 1e-3 % 0.1).to_le_bytes()).collect();
        let mut dtype = "F32";
        if change(&name, &mut shape, &mut bytes, &mut dtype) {
            let at = [data.len(), data.len() + bytes.len()];
            header.insert(name, serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": at }));
            data.extend(bytes);
        }
    }
    safetensors(&serde_json::Value::from(header).to_string(), &data)
}

const NAME: &str = "mask_decoder.iou_token.weight";

#[test]
fn the_unchanged_model_is_taken() {
    let place = Place::new();
    assert_eq!(place.import(&model(|_, _, _, _| true)).unwrap().arch(), Arch::SamMed2d);
}

#[test]
fn headers() {
    let place = Place::new();
    let entry =
        |name: &str, at: [usize; 2]| format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{at:?}}}");
    let two = |a, b| format!("{{{},{}}}", entry("a", a), entry("b", b));
    for (bytes, words) in [
        (Vec::new(), "no safetensors file"),
        (vec![1, 0, 0], "no safetensors file"),
        ([&(1u64 << 63).to_le_bytes()[..], b"{}"].concat(), "header claims"),
        ([&(100u64).to_le_bytes()[..], b"{}"].concat(), "header claims"),
        (safetensors("{\"a\":", &[]), "header is not usable"),
        (safetensors("[1,2]", &[]), "header is not usable"),
        (safetensors(&two([0, 8], [4, 12]), &[0; 12]), "header is not usable"),
        (safetensors(&two([0, 8], [12, 20]), &[0; 20]), "header is not usable"),
        (safetensors(&two([0, 8], [8, 16]), &[0; 15]), "its header expects"),
        (safetensors(&two([0, 8], [8, 16]), &[0; 17]), "its header expects"),
        (
            safetensors(
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
                &[0; 8],
            ),
            "header is not usable",
        ),
        (
            safetensors("{\"a\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", &[0; 8]),
            "header is not usable",
        ),
        (b"\x80\x02}q\x00.".to_vec(), "torch before 1.6"),
    ] {
        refused(place.import(&bytes), words);
    }
}

#[test]
fn tensors() {
    let place = Place::new();
    let at = |name: &str| name == NAME;
    refused(place.import(&model(|n, _, _, _| !at(n))), "missing mask_decoder.iou_token.weight");
    refused(
        place.import(&model(|n, shape, _, _| {
            if at(n) {
                shape.reverse();
            }
            true
        })),
        "is [16, 1], expected [1, 16]",
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let changed = model(|n, _, bytes, _| {
            if at(n) {
                bytes[4..8].copy_from_slice(&bad.to_le_bytes());
            }
            true
        });
        refused(place.import(&changed), "tensor mask_decoder.iou_token.weight holds a value that is not finite");
    }
    for dtype in ["I32", "BOOL"] {
        let changed = model(|n, shape, bytes, d| {
            if at(n) {
                *d = if dtype == "BOOL" { "BOOL" } else { "I32" };
                bytes.truncate(shape.iter().product::<usize>() * if dtype == "BOOL" { 1 } else { 4 });
            }
            true
        });
        refused(place.import(&changed), &format!("is {dtype}, expected F32"));
    }
}

#[test]
fn families_and_digests() {
    let place = Place::new();
    let out = place.0.path().join("x.safetensors");
    // Nothing of an image encoder, and sizes that nobody published.
    let other = safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", &[0; 8]);
    let other = place.file("other", &other);
    let error = import(&other, &out, &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, Error::WrongArch { .. }), "{error}");
    let small = place.file("small", &model(|_, _, _, _| true));
    let error = import(&small, &out, &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("--config"), "{error}");
    let error =
        import(&small, &out, &ImportOptions { arch: Some(Arch::MedSam), ..ImportOptions::default() }).unwrap_err();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
    assert!(!out.exists());

    import(&small, &out, &options()).unwrap();
    let good = std::fs::read(&out).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(SamModel::load(&place.file("d.safetensors", &damaged)), Err(Error::Digest { .. })));
    let text = String::from_utf8_lossy(&good[..4000]).into_owned();
    assert!(text.contains("sam-med2d") && text.contains("licence"));
    let renamed = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + from.len()].copy_from_slice(to);
        SamModel::load(&place.file("r.safetensors", &bytes))
    };
    assert!(matches!(renamed(b"sam-med2d\"", b"biomedclp\""), Err(Error::WrongArch { .. })));
    assert!(matches!(renamed(b"\\\"image_size\\\"", b"\\\"imagesizes\\\""), Err(Error::Malformed { .. })));
    assert!(matches!(renamed(b"\"sha256\"", b"\"sha257\""), Err(Error::Malformed { .. })));
    refused(SamModel::load(&small), "does not say its architecture");
    let pth = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sam_tiny/model.pth");
    refused(SamModel::load(&pth), "weights import");
    assert!(matches!(WeightsFile::open(&place.0.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn a_sam_is_converted_only_when_asked_for_and_whole() {
    let place = Place::new();
    let out = place.0.path().join("x.safetensors");
    let no_adapters = |n: &str| !n.contains("Adapter");
    let sam = place.file("sam", &model(|n, _, _, _| no_adapters(n)));
    assert!(matches!(import(&sam, &out, &options()), Err(Error::Unfit { .. })));
    let asked = ImportOptions { arch: Some(Arch::SamMed2d), ..options() };
    let done = import(&sam, &out, &asked).unwrap();
    assert!(
        done.fresh.iter().all(|n| n.contains("Adapter") || n.starts_with("mask_decoder.")) && done.fresh.len() > 18
    );
    assert!(done.fresh.contains(&"mask_decoder.mask_tokens.weight".to_owned()));
    SamModel::load(&out).unwrap();
    let part = place.file("part", &model(|n, _, _, _| no_adapters(n) && n != NAME));
    let error = import(&part, &out, &asked).unwrap_err();
    assert!(error.to_string().contains(&format!("missing {NAME}")), "{error}");
}

/// A torch checkpoint of a pickle and one storage.
fn checkpoint(pickle: &[u8], storage: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("m/data.pkl", pickle), ("m/data/0", storage)] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `{NAME: tensor}` in protocol 2: a tensor of `class`, shape (1, n) from `offset`, strides (n, 1).
fn tensor_pickle(class: &str, offset: u8, n: i32) -> Vec<u8> {
    let mut p = b"\x80\x02}X".to_vec();
    p.extend((NAME.len() as u32).to_le_bytes());
    p.extend(NAME.as_bytes());
    p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n");
    p.extend(class.as_bytes());
    p.extend(b"\nX\x01\x00\x00\x000X\x06\x00\x00\x00cuda:0K\x10tQK");
    p.push(offset);
    p.extend(b"(K\x01J");
    p.extend(n.to_le_bytes());
    p.extend(b"t(J");
    p.extend(n.to_le_bytes());
    p.extend(b"K\x01t\x89}tRs.");
    p
}

#[test]
fn pickles() {
    let place = Place::new();
    let stored = zip::CompressionMethod::Stored;
    let floats = |n: usize| vec![0u8; 4 * n];
    let pickle = |bytes: &[u8]| checkpoint(bytes, &floats(16), stored);
    // The description is read: only the other tensors are missing.
    let error = place.import(&pickle(&tensor_pickle("FloatStorage", 0, 16))).err().unwrap().to_string();
    assert!(error.contains("missing") && !error.contains(NAME), "{error}");
    for (bytes, words) in [
        (tensor_pickle("FloatStorage", 1, 16), "leaves its storage"),
        (tensor_pickle("FloatStorage", 0, 17), "leaves its storage"),
        (tensor_pickle("FloatStorage", 0, i32::MAX), "leaves its storage"),
        (tensor_pickle("FloatStorage", 0, -1), "description is not usable"),
        (tensor_pickle("DoubleStorage", 0, 16), "leaves its storage"),
        (tensor_pickle("StrangeStorage", 0, 16), "unknown storage"),
        (b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00touch\x85R.".to_vec(), "no dictionary of tensors"),
        (b"\x80\x02}.".to_vec(), "no dictionary of tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.".to_vec(), "holds no tensors"),
        (b"\x80\x02X\xff\xff\xff\xffabc".to_vec(), "ends too early"),
        (b"\x80\x02t.".to_vec(), "no mark"),
        (b"\x80\x02R.".to_vec(), "a value that is not there"),
        (b"\x80\x02h\x05.".to_vec(), "unknown memo"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.".to_vec(), "skips to memo"),
        (b"\x80\x02\xfe.".to_vec(), "unknown instruction 0xfe"),
        (b"\x80\x02".to_vec(), "ends too early"),
    ] {
        refused(place.import(&pickle(&bytes)), words);
    }
    // Doubling by reference and deep nesting cost nothing.
    let doubling: Vec<u8> =
        [b"\x80\x02N".to_vec(), (0..200).flat_map(|_| b"2\x86".to_vec()).collect(), b".".to_vec()].concat();
    refused(place.import(&pickle(&doubling)), "no dictionary of tensors");
    let deep: Vec<u8> = [b"\x80\x02N".to_vec(), vec![0x85; 1 << 20], b".".to_vec()].concat();
    refused(place.import(&pickle(&deep)), "no dictionary of tensors");
    refused(place.import(&pickle(&vec![b'N'; 9 << 20])), "its pickle has");
    refused(place.import(b"PK\x03\x04 and nothing more"), "zip archive is not usable");
    let mut empty = zip::ZipWriter::new(Cursor::new(Vec::new()));
    empty.start_file("m/readme", SimpleFileOptions::default().compression_method(stored)).unwrap();
    refused(place.import(&empty.finish().unwrap().into_inner()), "0 entries named data.pkl");
}

/// A pickle that would run a command if it were run, beside a whole model; and boolean tensors where floats belong.
#[test]
fn hostile_and_odd_checkpoints() {
    let place = Place::new();
    let marker = place.0.path().join("ran");
    let command = format!("touch {}", marker.display());
    let mut p = b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\nX".to_vec();
    p.extend((command.len() as u32).to_le_bytes());
    p.extend(command.as_bytes());
    p.extend(b"\x85Rs");
    let own = tensor_pickle("FloatStorage", 0, 16);
    // Into the same dictionary: the tensor's key and value, then "set item".
    p.extend(&own[3..]);
    let error = place.import(&checkpoint(&p, &[0; 64], zip::CompressionMethod::Stored)).err().unwrap();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
    assert!(!marker.exists(), "the pickle was run");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sam_tiny");
    let whole = std::fs::read(folder.join("model.pth")).unwrap();
    assert!(place.import(&whole).is_ok());
    // Bytes of the real checkpoint changed in place: the archive's checksum no longer holds.
    let mut odd = whole.clone();
    let ends: Vec<usize> = odd.windows(12).enumerate().filter(|(_, w)| w == b"FloatStorage").map(|(i, _)| i).collect();
    for at in ends {
        odd[at..at + 12].copy_from_slice(b"ShortStorage");
    }
    refused(place.import(&odd), "could not read checkpoint");
    let mut cut = whole;
    cut.truncate(cut.len() / 2);
    refused(place.import(&cut), "zip archive is not usable");
}

/// The length of a header may begin with the byte 0x80, as pickles of torch do.
#[test]
fn a_header_of_0x280_bytes_is_no_pickle() {
    let place = Place::new();
    let header = format!("{:1$}", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 0x280);
    let file = place.file("short", &safetensors(&header, &1f32.to_le_bytes()));
    assert_eq!(WeightsFile::open(&file).unwrap().tensors().count(), 1);
    for torch in [&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46 and so on"[..], b"PK\x03\x04 and so on"] {
        let error = WeightsFile::open(&place.file("torch", torch)).err().unwrap();
        assert!(error.to_string().contains("torch checkpoint"), "{error}");
    }
}
