//! Saved labels: on disk before the answer, every version kept, across a restart.
use crate::client::{Server, files, label, volume};
use crate::scanner::scan;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_saved_label_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let studies = folder.path().join("studies");
    fs::create_dir(&studies).unwrap();
    fs::write(studies.join("case_a.nrrd"), volume()).unwrap();
    fs::write(studies.join("notes.txt"), b"not an image").unwrap();
    let options = ["--studies", studies.to_str().unwrap()];
    let server = Server::start_in(folder, &options, None);
    let next = server.json("POST", "/activelearning/first", &json!({})).json();
    assert_eq!((next["id"].as_str(), next["name"].as_str()), (Some("case_a"), Some("case_a.nrrd")));
    assert!(next.get("path").is_none());
    server.upload("2%3A+Abdomen");
    let params = json!({ "label_info": [{ "name": "liver", "idx": 1 }] }).to_string();
    let save = |server: &Server, tag: &str| {
        let parts: [(&str, Option<&str>, &[u8]); 2] =
            [("params", None, params.as_bytes()), ("label", Some("/tmp/x/Doe.nrrd"), &label())];
        server.send("PUT", &format!("/datastore/label?image=case_a{tag}"), &parts)
    };
    assert_eq!(save(&server, "").json(), json!({ "image": "case_a", "label": "case_a" }));
    assert_eq!(save(&server, "&tag=final").status, 200);
    assert_eq!(save(&server, "&tag=original").status, 200);
    let bin = vec![1u8; 48 * 40 * 6];
    assert_eq!(
        server.send("PUT", "/datastore/label?image=2%3A+Abdomen", &[("label", Some("label.bin"), &bin)]).status,
        200
    );
    // Killed, not stopped.
    let folder = {
        let mut server = server;
        std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap())
    };
    let server = Server::start_in(folder, &options, None);
    let all = server.get("/datastore/?output=all").json();
    assert_eq!(all["objects"]["case_a"]["labels"]["final"]["info"]["label_info"][0]["name"], "liver");
    assert_eq!(all["objects"]["2: Abdomen"]["labels"]["final"]["ext"], ".nrrd");
    let saved = server.get("/datastore/label?label=case_a&tag=final");
    assert_eq!(saved.body, label());
    assert!(saved.head.contains("content-disposition: attachment; filename=\"case_a.nrrd\""));
    assert_eq!(server.call_with("HEAD", "/datastore/label?label=case_a&tag=final", "", b"").status, 200);
    assert_eq!(server.get("/datastore/").json()["label_tags"], json!({ "final": 2, "original": 1 }));
    assert_eq!(server.json("POST", "/activelearning/random", &json!({})).json(), json!({}));
    assert_eq!(server.call_with("DELETE", "/datastore/label?id=case_a&tag=final", "", b"").status, 200);
    assert_eq!(server.call_with("DELETE", "/datastore/image?id=case_a", "", b"").status, 406);
    assert_eq!(server.call_with("DELETE", "/datastore/image?id=2%3A+Abdomen", "", b"").status, 200);
    let (_, folder) = server.stop();
    let data = folder.path().join("data");
    let kept = files(&data.join("labels"));
    let versions = kept.iter().filter(|f| f.contains(".versions/case_a.") && f.ends_with(".nrrd")).count();
    assert_eq!(versions, 3, "{kept:#?}");
    let audit = fs::read_to_string(data.join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    assert!(lines.windows(2).all(|w| w[0]["hash"] == w[1]["previous"]));
    // No id of an image and no file name of a client stands in a name or in the log.
    for text in kept.iter().chain([&audit]) {
        assert!(!text.contains("Abdomen") && !text.contains("Doe"), "{text}");
    }
}

#[test]
fn a_series_is_the_next_sample_and_comes_as_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let studies = folder.path().join("studies");
    scan(&studies.join("series_a"), 1, 5);
    let server = Server::start_in(folder, &["--studies", studies.to_str().unwrap()], None);
    let next = server.json("POST", "/activelearning/first", &json!({})).json();
    assert_eq!((next["id"].as_str(), next["name"].as_str()), (Some("series_a"), Some("series_a.nii.gz")));
    let sent = server.get("/datastore/image?image=series_a");
    assert!(sent.status == 200 && sent.head.contains("filename=\"series_a.nii.gz\""), "{}", sent.head);
    let place = server.path("sent.nii.gz");
    fs::write(&place, &sent.body).unwrap();
    let read = |path: &std::path::Path| volseg_io::read(path, &volseg_io::ReadOptions::default()).unwrap();
    let (sent, series) = (read(&place), read(&studies.join("series_a")));
    assert_eq!(sent.volume.dim(), series.volume.dim());
    assert!((0..series.volume.dim().iter().product()).all(|n| sent.volume.value(n) * sent.slope + sent.intercept
        == series.volume.value(n) * series.slope + series.intercept));
    // What a client draws on the file that it got lies on the series' grid.
    let mask = volseg_io::Image::from_volume(
        volseg_geometry::Volume::from_vec(vec![1u8; 48 * 48 * 5], sent.volume.dim(), *sent.volume.affine())
            .unwrap()
            .into(),
    );
    volseg_io::write(&place, &mask).unwrap();
    let drawn = fs::read(&place).unwrap();
    let saved = server.send("PUT", "/datastore/label?image=series_a", &[("label", Some("drawn.nii.gz"), &drawn)]);
    assert_eq!(saved.status, 200, "{}", String::from_utf8_lossy(&saved.body));
    let left: Vec<String> = files(&server.path("temp")).into_iter().filter(|f| !f.ends_with("alive.lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}
