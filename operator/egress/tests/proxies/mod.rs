//! A test again, with proxies in the environment.

use std::{env, io::ErrorKind, net::TcpListener, process::Command};

/// Runs a test of this very binary again, in a process whose environment names a proxy in every variable that is known for
/// it. The test must pass as it does without, and nobody may come to the proxy.
#[track_caller]
pub fn again_with_proxies(test: &str) {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", proxy.local_addr().expect("an address"));
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command.args(["--exact", test]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "SOCKS_PROXY"] {
        command.env(name, &url).env(name.to_lowercase(), &url);
    }
    let output = command
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    // Whoever came waits to be accepted.
    proxy.set_nonblocking(true).expect("a flag");
    let came = proxy.accept().map_err(|error| error.kind());
    assert!(matches!(came, Err(ErrorKind::WouldBlock)), "{came:?}");
}
