//! The HTTP backend against a real server on this machine: good answers, and all the bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use volseg_geometry::Modality;
use volseg_prompt::vqa::{Answers, Api, Descriptions, GreyPicture, HttpClient, HttpSettings, Query, description};

/// What the server does with the n-th connection; the last one holds for all that follow.
#[derive(Clone)]
enum Act {
    Reply(u16, String),
    Raw(&'static [u8]),
    /// Sends a header and then a byte now and then.
    Dribble,
    Silence,
    Hang,
    Redirect(String),
}

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<(Vec<String>, String)>>>,
}

impl Server {
    fn new(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let (act, seen) = (acts[n.min(acts.len() - 1)].clone(), seen.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &act, &seen));
            }
        });
        Self { url, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn settings(&self) -> HttpSettings {
        let mut settings = HttpSettings::new(&self.url, "small-vlm");
        settings.time_limit = Duration::from_secs(2);
        settings
    }

    fn answers(&self) -> Answers {
        Answers::new(Box::new(HttpClient::new(self.settings()).unwrap()), None).unwrap()
    }
}

fn serve(mut stream: TcpStream, act: &Act, seen: &Mutex<Vec<(Vec<String>, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        headers.push(line.trim().to_owned());
    }
    let length = headers.iter().find_map(|h| h.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    seen.lock().unwrap().push((headers, String::from_utf8(body).unwrap()));
    let reply = |status: u16, more: &str, body: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n{body}", body.len())
    };
    let _ = match act {
        Act::Reply(status, body) => stream.write_all(reply(*status, "", body).as_bytes()),
        Act::Redirect(to) => stream.write_all(reply(307, &format!("location: {to}\r\n"), "").as_bytes()),
        Act::Raw(bytes) => stream.write_all(bytes),
        Act::Silence => Ok(()),
        Act::Hang => {
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Act::Dribble => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
    };
}

fn good(text: &str) -> String {
    json!({ "choices": [{ "message": { "role": "assistant", "content": text } }] }).to_string()
}

const PIXELS: [u8; 6] = [0, 50, 100, 150, 200, 250];

fn query(pixels: &[u8]) -> Query<'_> {
    let picture = GreyPicture { width: 3, height: 2, pixels };
    Query { image: "DOE^JANE-1970.nii.gz", slice: 87, organ: "liver", question: "Where is the liver?", picture }
}

#[test]
fn only_picture_and_question_leave() {
    let server = Server::new(vec![Act::Reply(200, good(" Right,\nupper. "))]);
    let mut settings = server.settings();
    settings.key = Some("s3cret".into());
    let answers = Answers::new(Box::new(HttpClient::new(settings).unwrap()), None).unwrap();
    let answer = answers.ask(&query(&PIXELS)).unwrap();
    assert_eq!((answer.text.as_str(), answer.cached), ("Right, upper.", false));
    assert!(answers.warnings().is_empty());

    let (headers, body) = server.requests.lock().unwrap()[0].clone();
    assert!(headers[0].starts_with("POST /v1/chat/completions "), "{headers:?}");
    assert!(headers.contains(&"authorization: Bearer s3cret".to_owned()));
    let sent: Value = serde_json::from_str(&body).unwrap();
    let content = &sent["messages"][0]["content"];
    let url = content[1]["image_url"]["url"].as_str().unwrap();
    let png = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        url.strip_prefix("data:image/png;base64,").unwrap(),
    );
    let png = image::load_from_memory(&png.unwrap()).unwrap();
    assert_eq!((png.width(), png.height(), png.as_bytes()), (3, 2, &PIXELS[..]));
    let whole = json!({
        "model": "small-vlm", "temperature": 0, "max_tokens": 60, "stream": false,
        "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "Where is the liver?" },
            { "type": "image_url", "image_url": { "url": url } },
        ] }],
    });
    assert_eq!(sent, whole);
    assert!(!format!("{headers:?}{body}").contains("DOE"));
}

#[test]
fn ollama_is_spoken_too() {
    let server = Server::new(vec![Act::Reply(200, json!({ "message": { "content": "Round." } }).to_string())]);
    let mut settings = server.settings();
    settings.api = Some(Api::Ollama);
    let answers = Answers::new(Box::new(HttpClient::new(settings).unwrap()), None).unwrap();
    assert_eq!(answers.ask(&query(&PIXELS)).unwrap().text, "Round.");
    let (headers, body) = server.requests.lock().unwrap()[0].clone();
    assert!(headers[0].starts_with("POST /api/chat "));
    let sent: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(sent["messages"][0]["images"].as_array().unwrap().len(), 1);
    assert_eq!((&sent["stream"], &sent["options"]["temperature"]), (&json!(false), &json!(0)));
}

#[test]
fn a_busy_service_is_asked_again() {
    let server = Server::new(vec![Act::Reply(500, "no".into()), Act::Silence, Act::Reply(200, good("Left."))]);
    assert_eq!(server.answers().ask(&query(&PIXELS)).unwrap().text, "Left.");
    assert_eq!(server.count(), 3);
}

#[test]
fn every_bad_service_costs_the_answer_and_gives_a_warning() {
    let elsewhere = Server::new(vec![Act::Reply(200, good("from elsewhere"))]);
    let huge = good(&"word ".repeat(1 << 18));
    for (act, words, requests) in [
        (Act::Reply(500, "broken".into()), "status 500", 3),
        (Act::Reply(429, String::new()), "status 429", 3),
        (Act::Reply(404, "no such model".into()), "status 404", 1),
        (Act::Reply(200, "<html>hello</html>".into()), "no OpenAi chat", 1),
        (Act::Reply(200, "{\"choices\": []}".into()), "no OpenAi chat", 1),
        (Act::Reply(200, String::new()), "no OpenAi chat", 1),
        (Act::Reply(200, huge), "too long", 1),
        (Act::Raw(b"\x00\xff\x13garbage\r\n\r\n"), "connection", 3),
        (Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"cho"), "connection", 3),
        (Act::Silence, "connection", 3),
        (Act::Redirect(elsewhere.url.clone()), "status 307", 1),
    ] {
        let server = Server::new(vec![act]);
        let answers = server.answers();
        assert_eq!(answers.ask(&query(&PIXELS)), None, "{words}");
        let warnings = answers.warnings();
        assert!(warnings[0].contains(words), "{words}: {warnings:?}");
        assert!(warnings[1].starts_with("1 questions have no answer"), "{warnings:?}");
        assert_eq!(server.count(), requests, "{words}");
    }
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn slow_services_are_left_after_the_time_limit_and_then_for_good() {
    for act in [Act::Hang, Act::Dribble] {
        let server = Server::new(vec![act]);
        let mut settings = server.settings();
        settings.time_limit = Duration::from_millis(400);
        let answers = Answers::new(Box::new(HttpClient::new(settings).unwrap()), None).unwrap();
        let start = Instant::now();
        for n in 0..50u8 {
            assert_eq!(answers.ask(&query(&[n; 6])), None);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(server.count(), 3);
        let warnings = answers.warnings();
        assert!(warnings[0].contains("in time"), "{warnings:?}");
        assert!(warnings[1].contains("50 questions") && warnings[1].contains("given up"), "{warnings:?}");
    }
}

#[test]
fn nobody_there_is_no_answer() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = HttpSettings::new(format!("http://{free}"), "m");
    settings.time_limit = Duration::from_secs(1);
    let answers = Answers::new(Box::new(HttpClient::new(settings).unwrap()), None).unwrap();
    assert_eq!(answers.ask(&query(&PIXELS)), None);
    assert!(answers.warnings()[0].contains("connection"), "{:?}", answers.warnings());
}

#[test]
fn answers_are_kept_from_run_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("answers.jsonl");
    let server = Server::new(vec![Act::Reply(200, good("Left.")), Act::Reply(200, good(""))]);
    let run = || Answers::new(Box::new(HttpClient::new(server.settings()).unwrap()), Some(&cache)).unwrap();
    assert!(!run().ask(&query(&PIXELS)).unwrap().cached);
    // A killed run leaves half a line.
    std::fs::OpenOptions::new().append(true).open(&cache).unwrap().write_all(b"{\"image\": \"").unwrap();
    let second = run();
    assert_eq!(second.ask(&query(&[9; 6])), None);
    assert!(second.ask(&query(&PIXELS)).unwrap().cached);
    let third = run();
    assert!(third.ask(&query(&PIXELS)).unwrap().cached);
    assert_eq!(third.ask(&query(&[9; 6])), None);
    assert_eq!(server.count(), 2);
    assert!(!std::fs::read_to_string(&cache).unwrap().contains("DOE"));
}

#[test]
fn a_model_describes_an_organ_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("descriptions.jsonl");
    let liver = "liver".parse().unwrap();
    let server = Server::new(vec![Act::Reply(200, good("A big\norgan."))]);
    for _ in 0..2 {
        let descriptions = Descriptions::by_model(HttpClient::new(server.settings()).unwrap(), Some(&cache)).unwrap();
        for _ in 0..3 {
            assert_eq!(descriptions.of(liver, Modality::Ct), "A big organ.");
        }
        assert!(descriptions.warnings().is_empty());
    }
    assert_eq!(server.count(), 1);
    let sent: Value = serde_json::from_str(&server.requests.lock().unwrap()[0].1).unwrap();
    assert_eq!(sent["messages"][0]["content"], "Briefly describe, in one line, liver of a human in CT");

    let broken = Server::new(vec![Act::Reply(404, String::new())]);
    let descriptions = Descriptions::by_model(HttpClient::new(broken.settings()).unwrap(), None).unwrap();
    for _ in 0..3 {
        assert_eq!(descriptions.of(liver, Modality::Ct), description(liver));
    }
    assert_eq!((broken.count(), descriptions.warnings().len()), (1, 1));
}
