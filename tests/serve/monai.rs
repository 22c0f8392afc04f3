//! What the MONAI Label extension of Slicer asks for, in its order.
use crate::client::{DIM, Server, volume};
use serde_json::json;

#[test]
fn a_working_day_of_the_extension() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/auth/").json()["enabled"], false);
    let info = server.get("/info/").json();
    assert_eq!(info, server.get("/info").json());
    assert!(info.get("config").is_none() && info["labels"].is_array());
    for (name, m) in info["models"].as_object().unwrap() {
        for key in ["type", "labels", "dimension", "description", "config"] {
            assert!(!m[key].is_null(), "{name} {key}");
        }
    }
    let labels = info["models"]["embedded-auto"]["labels"].as_object().unwrap();
    let mut values: Vec<u64> = labels.values().map(|v| v.as_u64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=15).collect::<Vec<u64>>());
    assert_eq!(info["models"]["embedded-click"]["labels"], json!([]));

    let session = server.send("PUT", "/session/?client_id=x", &[("files", Some("tmpabc123.nrrd"), &volume())]);
    let session = session.json()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/session/{session}?update_ts=true")).status, 200);
    let image = server.get(&format!("/session/{session}?image=true"));
    assert_eq!(image.body, volume());
    assert!(image.head.contains(&format!("content-length: {}", volume().len())));

    // A box that is reversed and reaches outside.
    let click = json!({ "label": "Segment_1", "foreground": [[30, 18, 3]], "background": [], "roi": [45, 20, 8, 90, 5, -3],
        "slice": 3, "device": "auto", "threshold": 0.5, "keep_largest": false, "result_extension": ".nrrd",
        "result_dtype": "uint8", "client_id": "user-xyz" });
    let path = format!("/infer/embedded-click?image=2%3A+Abdomen+5.0&session_id={session}");
    let answer = server.send("POST", &path, &[("params", None, click.to_string().as_bytes())]);
    assert_eq!(answer.status, 200);
    assert!(!answer.head.contains("transfer-encoding") && answer.head.contains("content-length"));
    assert!(answer.head.contains("multipart/form-data; boundary="));
    assert_eq!(answer.params()["label_names"], json!([]));
    let voxels = answer.voxels();
    let slice = |k: usize| &voxels[k * DIM[0] * DIM[1]..(k + 1) * DIM[0] * DIM[1]];
    assert!((0..6).all(|k| (k == 3) == slice(k).contains(&1)), "voxels on the asked slice alone");
    let header = String::from_utf8_lossy(&answer.body).into_owned();
    for line in ["sizes: 48 40 6", "space directions: (-6,0,0) (0,-6,0) (0,0,5)", "space origin: (10,20,-30)"] {
        assert!(header.contains(line), "{line}");
    }

    // A volume that is loaded in Slicer, then segmented as a whole.
    server.upload("case_a");
    let options = json!({ "result_extension": ".nrrd", "result_dtype": "uint16", "threshold": 0.5 });
    let whole = server.infer("embedded-auto", "case_a", &options);
    assert_eq!(whole.params()["label_names"], info["models"]["embedded-auto"]["labels"]);
    assert!(String::from_utf8_lossy(&whole.body).contains("type: uint16"));
    let bare = server.send(
        "POST",
        "/infer/embedded-click3d?image=case_a&output=image",
        &[(
            "params",
            None,
            json!({ "foreground": [[30, 18, 3]], "result_extension": ".nii.gz" }).to_string().as_bytes(),
        )],
    );
    assert!(bare.body.starts_with(&[0x1f, 0x8b]) && bare.head.contains("filename=\"volseg-"));
    let told = server.send(
        "POST",
        "/infer/embedded-click?image=case_a&output=json",
        &[("params", None, json!({ "foreground": [[30, 18, 3]] }).to_string().as_bytes())],
    );
    assert!(told.json()["latencies"]["total"].is_number());
    let attached = json!({ "foreground": [[30.2, 17.9, 3.0]] }).to_string();
    let attached = server.send(
        "POST",
        "/infer/embedded-click?image=",
        &[("params", None, attached.as_bytes()), ("file", Some("C:\\Users\\Doe\\a.nrrd"), &volume())],
    );
    assert_eq!(attached.status, 200);

    // Idle, so anything but 200.
    assert_eq!(server.get("/train/?check_if_running=true").status, 404);
    assert_eq!(server.call_with("DELETE", &format!("/session/{session}"), "", b"").json()["name"], session.as_str());
    assert_eq!(server.get(&format!("/session/{session}")).status, 404);
    let (code, folder) = server.stop();
    assert_eq!(code, Some(0));
    assert!(crate::client::files(&folder.path().join("temp")).is_empty(), "temporary files stay behind");
}

#[test]
fn a_token_opens_what_is_closed_without_it() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), &[], Some("correct-horse"));
    assert_eq!(server.get("/auth/").json()["enabled"], true);
    assert_eq!(server.get("/healthz").status, 200);
    for path in ["/info/", "/metrics", "/datastore/", "/auth/token/valid", "/volseg/images"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    let log_in = |password: &str| {
        let body = format!("username=u&password={password}&grant_type=password");
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        server.call_with("POST", "/auth/token", kind, body.as_bytes())
    };
    assert_eq!(log_in("wrong-horse").status, 401);
    let token = log_in("correct-horse").json();
    assert_eq!(token["token_type"], "bearer");
    let header = format!("Authorization: bearer {}\r\n", token["access_token"].as_str().unwrap());
    assert_eq!(server.call_with("GET", "/info/", &header, b"").status, 200);
    assert_eq!(server.call_with("GET", "/info/", "Authorization: bearer wrong-horse\r\n", b"").status, 401);
    // The client uses one header map: a GET may announce a body that never comes.
    let head =
        format!("GET /info/ HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: 999\r\nConnection: close\r\n\r\n");
    assert_eq!(server.raw(head.as_bytes()).status, 200);
}

#[test]
fn health_and_metrics_name_no_image() {
    let server = Server::start(&[]);
    server.upload("Doe%5EJohn");
    server.infer("embedded-click", "Doe%5EJohn", &json!({ "foreground": [[30, 18, 3]] }));
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(text.contains("volseg_requests_total{route=\"/infer/{model}\",status=\"200\"} 1"), "{text}");
    assert!(text.contains("volseg_inference_seconds_count 1") && !text.contains("Doe"));
    let page = server.get("/");
    assert!(page.head.contains("content-security-policy") && page.body.starts_with(b"<!doctype html>"));
    for file in ["volseg.js", "masks.js", "volseg.css"] {
        assert_eq!(server.get(&format!("/page/{file}")).status, 200);
    }
    assert_eq!(server.get("/page/..%2f..%2fetc%2fpasswd").status, 404);
}
