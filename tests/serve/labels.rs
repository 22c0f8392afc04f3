//! Saved labels: on disk before the answer, every version kept, across a restart.
use crate::client::{Server, files, volume};
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
            [("params", None, params.as_bytes()), ("label", Some("/tmp/x/Doe.nrrd"), &volume())];
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
    let label = server.get("/datastore/label?label=case_a&tag=final");
    assert_eq!(label.body, volume());
    assert!(label.head.contains("content-disposition: attachment; filename=\"case_a.nrrd\""));
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
