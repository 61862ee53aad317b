//! Requirement R01 as its users see it: a client, two routers and the servers behind them, each in a network
//! namespace of its own. The client's kernel has the route table.

use std::process::Command;

use crate::router::{Router, said};

/// All namespaces of one test. They are removed with it.
struct Network(String);

impl Network {
    fn new() -> Option<Self> {
        let network = Self(format!("hax-r01-{}", std::process::id()));
        for of in ["client", "a", "b"] {
            let (code, text) = said(Command::new("ip").args(["netns", "add", &network.name(of)]));
            if code != 0 {
                println!("no network namespaces here: {text}");
                return None;
            }
        }
        // A bridge in the client's namespace, and the network behind the routers on both of them.
        for (of, line) in [
            ("client", "link add lan type bridge"),
            ("client", "addr add 10.0.0.100/24 dev lan"),
            ("client", "link set lan up"),
        ] {
            if network.ip(of, line).0 != 0 {
                println!("no bridges here: {}", network.ip(of, line).1);
                return None;
            }
        }
        for (of, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
            let peer = network.name(of);
            let add = format!("link add to-{of} type veth peer name lan netns {peer}");
            assert_eq!(network.ip("client", &add).0, 0);
            network.ip("client", &format!("link set to-{of} master lan"));
            network.ip("client", &format!("link set to-{of} up"));
            for line in [
                &format!("addr add {address}/24 dev lan"),
                "link set lan up",
                "addr add 192.0.2.1/32 dev lo",
                "link set lo up",
            ] {
                assert_eq!(network.ip(of, line).0, 0, "{line}");
            }
        }
        network.ip("client", "route add 192.0.2.0/24 via 10.0.0.1");
        Some(network)
    }

    fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.0)
    }

    fn ip(&self, of: &str, line: &str) -> (i32, String) {
        said(Command::new("ip").args(["-n", &self.name(of)]).args(line.split(' ')))
    }

    /// Starts a server behind a router. It responds with the router's name.
    fn serve(&self, of: &str) -> Served {
        let program = format!(
            "import socket\ns = socket.create_server(('192.0.2.1', 80))\nprint('up', flush=True)\n\
             while True:\n  c, _ = s.accept(); c.sendall(b'{of}'); c.close()"
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(of), "python3", "-c", &program]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "up\n");
        Served(child)
    }

    /// Returns the name of the server in the response to the client.
    fn reached(&self) -> Option<String> {
        let program =
            "import socket\nprint(socket.create_connection(('192.0.2.1', 80), 1).recv(9).decode())";
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name("client"), "python3", "-c", program]);
        let (code, text) = said(&mut command);
        (code == 0).then_some(text)
    }
}

/// A server behind a router. It runs until the test ends.
struct Served(std::process::Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for of in ["client", "a", "b"] {
            let _ = said(Command::new("ip").args(["netns", "del", &self.name(of)]));
        }
    }
}

#[test]
fn r01_traffic_goes_by_the_active_router_and_by_the_other_after_its_death() {
    let Some(network) = Network::new() else { return };
    let _served = [network.serve("a"), network.serve("b")];
    let [a, b] = ["a", "b"].map(|of| Router::serving(&format!("r01-{of}")));
    let node = format!("-i 1 -p linux -t main -r 192.0.2.0/24 -ns {}", network.name("client"));
    a.ok(&format!("create_node {node} -n 10.0.0.1 -m primary"));
    b.ok(&format!("create_node {node} -n 10.0.0.2"));
    assert_eq!(network.reached().as_deref(), Some("a"));
    network.ip("client", "link set to-a down");
    assert_eq!(network.reached(), None);
    b.ok("node_event -i 1 -e peerFail");
    assert_eq!(network.reached().as_deref(), Some("b"));
    network.ip("client", "link set to-a up");
    a.ok("node_event -i 1 -e revert");
    assert_eq!(network.reached().as_deref(), Some("a"));
}
