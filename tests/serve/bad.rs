//! Bad input: the status that each gets, one plain sentence, and a server that goes on.
use crate::client::{Server, read_answer, volume};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    process::Command,
    time::Duration,
};

/// The server still works, and the refusal is a sentence without a path or a trace.
fn goes_on(server: &Server, what: &str, answer: &crate::client::Answer, status: u16) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{what}: {text}");
    let detail = answer.detail();
    assert!(
        detail.len() > 5 && !detail.contains('\n') && !detail.contains("/tmp") && !detail.contains(".rs:"),
        "{detail}"
    );
    assert_eq!(server.get("/healthz").status, 200, "after {what}");
}

#[test]
fn ids_and_names_that_are_none() {
    let server = Server::start(&[]);
    server.upload("case_a");
    let long = "x".repeat(300);
    let click = json!({ "foreground": [[30, 18, 3]] });
    for (what, model, image, status) in [
        ("a path as an id", "embedded-click", "../x", 404),
        ("an encoded path", "embedded-click", "..%2f..%2fetc%2fpasswd", 404),
        ("an empty id", "embedded-click", "", 422),
        ("300 letters", "embedded-click", long.as_str(), 422),
        ("a control character", "embedded-click", "a%0Ab", 422),
        ("an unknown image", "embedded-click", "nobody", 404),
        ("an unknown model", "no-such-model", "case_a", 404),
        ("a model with a path", "..%2fx", "case_a", 404),
    ] {
        goes_on(&server, what, &server.infer(model, image, &click), status);
    }
    let upload =
        |id: &str| server.send("PUT", &format!("/datastore/?image={id}"), &[("file", Some("a.nrrd"), &volume())]);
    goes_on(&server, "an upload without an id", &server.send("PUT", "/datastore/", &[("file", Some("a"), b"x")]), 422);
    goes_on(&server, "an upload with an empty id", &upload(""), 422);
    goes_on(&server, "an upload with a long id", &upload(&long), 422);
    assert_eq!(upload("..%2f..%2fx").status, 200, "an id is only a name");
    assert!(!server.folder.path().join("x").exists());
    let before = server.get("/datastore/image?image=case_a").body;
    let other =
        server.send("PUT", "/volseg/images?image=case_a&plane=x", &[("file", Some("a.nrrd"), &crate::client::label())]);
    goes_on(&server, "an upload in a plane that is none", &other, 422);
    assert!(server.get("/datastore/image?image=case_a").body == before, "a refused upload changes nothing");
    goes_on(&server, "an unknown session", &server.get("/session/no-such-session"), 404);
    goes_on(&server, "letters as a slice", &server.get("/volseg/slice?image=case_a&slice=x"), 422);
    goes_on(&server, "an unknown strategy", &server.json("POST", "/activelearning/best", &json!({})), 404);
    goes_on(&server, "an unknown page", &server.get("/nothing/here"), 404);
    goes_on(&server, "an unknown method", &server.call_with("DELETE", "/info/", "", b""), 405);
    goes_on(&server, "training", &server.json("POST", "/train/embedded-auto", &json!({})), 404);
}

#[test]
fn parameters_that_cannot_be() {
    let server = Server::start(&[]);
    server.upload("case_a");
    let raw = |text: &[u8]| server.send("POST", "/infer/embedded-click?image=case_a", &[("params", None, text)]);
    goes_on(&server, "no JSON", &raw(b"{foreground"), 422);
    goes_on(&server, "a list", &raw(b"[1]"), 422);
    goes_on(&server, "deep JSON", &raw("[".repeat(10_000).as_bytes()), 422);
    goes_on(&server, "not UTF-8", &raw(b"\xff\xfe"), 422);
    goes_on(&server, "a large text", &raw(&vec![b' '; 2 << 20]), 413);
    let point = |p: Value| json!({ "foreground": p, "slice": 3 });
    for (what, params, status) in [
        ("a point outside", point(json!([[48, 1, 3]])), 422),
        ("a negative point", point(json!([[-1, 1, 3]])), 422),
        ("two numbers", point(json!([[1, 1]])), 422),
        ("letters", point(json!([["a", 1, 3]])), 422),
        ("no list", point(json!(7)), 422),
        ("no point", point(json!([])), 422),
        ("a slice outside", json!({ "foreground": [[30, 18, 3]], "slice": 6 }), 422),
        ("a box outside", json!({ "roi": [60, 70, 1, 2, 3, 3] }), 422),
        ("a box of three", json!({ "roi": [1, 2, 3] }), 422),
        ("a threshold beyond 1", json!({ "foreground": [[30, 18, 3]], "threshold": 7 }), 422),
        ("a device that is not there", json!({ "foreground": [[30, 18, 3]], "device": "cuda" }), 422),
        ("a form that is not written", json!({ "foreground": [[30, 18, 3]], "result_extension": ".exe" }), 422),
        ("a type that is not written", json!({ "foreground": [[30, 18, 3]], "result_dtype": "float" }), 422),
    ] {
        goes_on(&server, what, &server.infer("embedded-click", "case_a", &params), status);
    }
    let fine = [
        json!({ "foreground": [[30.4, 17.6, 3.0]], "slice": 3 }),
        json!({ "foreground": [[30, 18, 3]], "roi": [46, 2, 38, 1, 5, 0], "slice": 3 }),
    ];
    for params in fine {
        assert_eq!(server.infer("embedded-click", "case_a", &params).status, 200, "{params}");
    }
    let kind = "Content-Type: multipart/form-data; boundary=other\r\n";
    let body = crate::client::form(&[("params", None, b"{}")]);
    goes_on(
        &server,
        "a wrong boundary",
        &server.call_with("POST", "/infer/embedded-click?image=case_a", kind, &body),
        422,
    );
    goes_on(&server, "no form", &server.json("POST", "/infer/embedded-click?image=case_a", &json!({})), 422);
    goes_on(
        &server,
        "an unknown output",
        &server.send("POST", "/infer/embedded-click?image=case_a&output=x", &[]),
        422,
    );
    goes_on(
        &server,
        "an output that is off",
        &server.send("POST", "/infer/embedded-click?image=case_a&output=dicom_seg", &[]),
        406,
    );
}

#[test]
fn volumes_and_labels_that_are_none() {
    let server = Server::start(&["--max-body", "4MiB"]);
    server.upload("case_a");
    let put =
        |path: &str, part: &str, name: &str, content: &[u8]| server.send("PUT", path, &[(part, Some(name), content)]);
    goes_on(&server, "letters as a volume", &put("/datastore/?image=b", "file", "a.nrrd", b"hello"), 422);
    goes_on(&server, "an empty volume", &put("/datastore/?image=b", "file", "a.nrrd", b""), 422);
    goes_on(&server, "a cut volume", &put("/datastore/?image=b", "file", "a.nrrd", &volume()[..5000]), 422);
    goes_on(&server, "letters in a session", &put("/session/", "files", "a.nii.gz", b"hello"), 422);
    goes_on(&server, "no file", &server.send("PUT", "/datastore/?image=b", &[("params", None, b"{}")]), 422);
    let escape =
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ../../../etc/passwd\n\n";
    goes_on(&server, "a header that names a file", &put("/datastore/?image=b", "file", "a.nrrd", escape), 422);
    let large = vec![7u8; 6 << 20];
    goes_on(&server, "more than the limit", &put("/datastore/?image=b", "file", "a.nrrd", &large), 413);
    let mut huge = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9999 9999 9999\nspace: left-posterior-superior\n\
        space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n\n"
        .to_vec();
    huge.extend([0; 100]);
    let answer = put("/datastore/?image=b", "file", "a.nrrd", &huge);
    assert!([413, 422].contains(&answer.status), "{}", answer.detail());
    assert_eq!(server.get("/datastore/image?image=b").status, 404, "nothing of a refused upload stays");
    let label = "/datastore/label?image=case_a";
    let mut shifted = volume();
    let origin = crate::client::find(&shifted, b"(10,20,-30)").unwrap();
    shifted[origin + 1] = b'9';
    goes_on(&server, "a CT as a label", &put(label, "label", "a.nrrd", &volume()), 422);
    goes_on(&server, "letters as a label", &put(label, "label", "a.nrrd", b"hello"), 422);
    goes_on(&server, "a label without a known ending", &put(label, "label", "a.exe", &volume()), 422);
    goes_on(&server, "bare voxels of another size", &put(label, "label", "label.bin", &[0; 10]), 422);
    goes_on(&server, "a label of another image", &put("/datastore/label?image=z", "label", "a.nrrd", &volume()), 404);
    goes_on(&server, "a tag of a path", &put(&format!("{label}&tag=..%2fx"), "label", "a.nrrd", &volume()), 404);
    goes_on(&server, "a label on another grid", &put(label, "label", "a.nrrd", &shifted), 422);
    assert_eq!(server.get("/datastore/").json()["completed"], 0);
}

#[test]
fn clients_that_leave_wait_or_come_from_elsewhere() {
    let server = Server::start(&["--session-expiry", "1", "--allow-origin", "https://viewer.example"]);
    server.upload("case_a");
    // Killed in the middle of an upload.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!(
        "PUT /datastore/?image=b HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b1\r\nContent-Length: {}\r\n\r\n",
        volume().len() + 500
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&crate::client::form(&[("file", Some("a.nrrd"), &volume())])[..4000]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    // A body that ends before its announced length.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"--b1\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    goes_on_after(&server, &mut stream);
    assert_eq!(server.get("/datastore/image?image=b").status, 404);
    // Chunks are read as well.
    let form = crate::client::form(&[("file", Some("a.nrrd"), &volume())]);
    let mut chunked =
        b"PUT /datastore/?image=c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: multipart/form-data; boundary=b1\r\n\r\n"
            .to_vec();
    for piece in form.chunks(1000) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend_from_slice(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(server.raw(&chunked).status, 200);

    let session = server.send("PUT", "/session/", &[("files", Some("a.nrrd"), &volume())]).json();
    let session = session["session_id"].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(2100));
    goes_on(&server, "an expired session", &server.get(&format!("/session/{session}")), 404);
    let path = format!("/infer/embedded-click?session_id={session}");
    let params = json!({ "foreground": [[30, 18, 3]] }).to_string();
    goes_on(&server, "a click in it", &server.send("POST", &path, &[("params", None, params.as_bytes())]), 404);

    let from = |headers: &str, method: &str| server.call_with(method, "/info/", headers, b"");
    goes_on(&server, "another site", &from("Origin: https://evil.example\r\n", "GET"), 403);
    goes_on(&server, "its preflight", &from("Origin: https://evil.example\r\n", "OPTIONS"), 403);
    let allowed = from("Origin: https://viewer.example\r\n", "GET");
    assert!(allowed.head.contains("access-control-allow-origin: https://viewer.example"));
    assert_eq!(from("Origin: https://viewer.example\r\n", "OPTIONS").status, 204);
    let rebound = b"GET /info/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    goes_on(&server, "a name that is bound to loopback", &server.raw(rebound), 403);
}

fn goes_on_after(server: &Server, stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let answer = read_answer(stream);
    goes_on(server, "a body that ends early", &answer, 422);
}

#[test]
fn settings_that_are_not_safe_do_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let start = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
        command.arg("serve").arg("--data").arg(folder.path().join("data")).args(options).env_remove("VOLSEG_TOKEN");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (options, code, part) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "token"),
        (&["--listen", "127.0.0.1:0", "--allow-origin", "*"], 2, "origin"),
        (&["--listen", "127.0.0.1:0", "--allow-origin", "null"], 2, "origin"),
        (&["--listen", "127.0.0.1:0", "--model", "missing.safetensors"], 2, "missing.safetensors"),
        (&["--listen", "127.0.0.1:0", "--studies", "/no/such/folder"], 4, "/no/such/folder"),
        (&["--listen", "127.0.0.1:0", "--temp", "/proc"], 1, "temporary folder"),
        (&["--listen", "nowhere"], 2, "--listen"),
    ] {
        let (found, text) = start(options);
        assert!(found == Some(code) && text.contains(part), "{options:?}: {found:?} {text}");
    }
}
