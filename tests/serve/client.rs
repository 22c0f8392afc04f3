//! A server of the test's own, and requests byte by byte, so that they can be wrong on purpose.
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) const DIM: [usize; 3] = [48, 40, 6];

/// A NRRD of a soft-tissue body with a brighter ball, air outside.
pub(crate) fn volume() -> Vec<u8> {
    ball(130, 40, -1000)
}

/// A label on the volume's grid: the ball 2, the body 1.
pub(crate) fn label() -> Vec<u8> {
    ball(2, 1, 0)
}

fn ball(inside: i16, around: i16, air: i16) -> Vec<u8> {
    let mut out = b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 48 40 6\n\
        space directions: (-6,0,0) (0,-6,0) (0,0,5)\nkinds: domain domain domain\nendian: little\nencoding: raw\n\
        space origin: (10,20,-30)\n\n"
        .to_vec();
    for n in 0..48 * 40 * 6 {
        let (x, y, z) = ((n % 48) as f64 - 30.0, (n / 48 % 40) as f64 - 18.0, (n / 1920) as f64 - 3.0);
        let in_ball = x * x + y * y + 4.0 * z * z < 60.0;
        let body = ((x + 6.0) / 22.0).powi(2) + (y / 17.0).powi(2) < 1.0;
        let value = match (in_ball, body) {
            (true, _) => inside,
            (_, true) => around,
            _ => air,
        };
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The one sentence of a refusal.
    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }

    /// Voxels of the mask of a two-part answer, or of a bare file.
    pub(crate) fn voxels(&self) -> Vec<u8> {
        let start = find(&self.body, b"NRRD0005").expect("no NRRD in the answer");
        let file = &self.body[start..];
        let data = find(file, b"\n\n").unwrap() + 2;
        file[data..data + DIM.iter().product::<usize>()].to_vec()
    }

    /// The part `params` of a two-part answer.
    pub(crate) fn params(&self) -> Value {
        let start = find(&self.body, b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&self.body[start..], b"\r\n--").unwrap();
        serde_json::from_slice(&self.body[start..end]).unwrap()
    }
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|w| w == part)
}

/// The body of a form with boundary `b1`: name, file name, content.
pub(crate) fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, file, content) in parts {
        let file = file.map_or(String::new(), |f| format!("; filename=\"{f}\""));
        out.extend(format!("--b1\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        out.extend_from_slice(content);
        out.extend(b"\r\n");
    }
    out.extend(b"--b1--\r\n");
    out
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options, None)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, options: &[&str], token: Option<&str>) -> Self {
        let port_file = folder.path().join("port");
        let _ = fs::remove_file(&port_file);
        fs::create_dir_all(folder.path().join("temp")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
        command.args(["serve", "--monai-label", "--listen", "127.0.0.1:0", "--quiet", "--port-file"]);
        command.arg(&port_file).arg("--data").arg(folder.path().join("data"));
        command.arg("--temp").arg(folder.path().join("temp")).args(options).stderr(Stdio::inherit());
        match token {
            Some(token) => command.env("VOLSEG_TOKEN", token),
            None => command.env_remove("VOLSEG_TOKEN"),
        };
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        let port = loop {
            if let Some(port) = fs::read_to_string(&port_file).ok().and_then(|t| t.trim().parse().ok()) {
                break port;
            }
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            assert!(began.elapsed() < Duration::from_secs(120), "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { child, port, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends bytes and reads the answer to its end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.write_all(bytes).unwrap();
        read_answer(&mut stream)
    }

    pub(crate) fn call_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call_with("GET", path, "", b"")
    }

    pub(crate) fn json(&self, method: &str, path: &str, value: &Value) -> Answer {
        self.call_with(method, path, "Content-Type: application/json\r\n", value.to_string().as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Answer {
        self.call_with(method, path, "Content-Type: multipart/form-data; boundary=b1\r\n", &form(parts))
    }

    /// Uploads the volume under an id.
    pub(crate) fn upload(&self, id: &str) {
        let answer =
            self.send("PUT", &format!("/datastore/?image={id}"), &[("file", Some("/home/x/Doe.nrrd"), &volume())]);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    pub(crate) fn infer(&self, model: &str, image: &str, params: &Value) -> Answer {
        self.send("POST", &format!("/infer/{model}?image={image}"), &[("params", None, params.to_string().as_bytes())])
    }

    /// Asks the server to stop and gives its exit code and folder.
    pub(crate) fn stop(mut self) -> (Option<i32>, tempfile::TempDir) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let code = self.child.wait().unwrap().code();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (code, folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = find(&all, b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&all)));
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: all[end + 4..].to_vec() }
}

/// Names of the files below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                out.push(entry.path().display().to_string());
            }
        }
    }
    out.sort();
    out
}
