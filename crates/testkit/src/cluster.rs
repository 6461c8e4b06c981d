//! Several private nodes that form one RabbitMQ cluster.

use crate::{PrivateNode, PrivateNodeError, PrivateNodeOptions};

/// Private nodes of one cluster on this machine.
///
/// One of them may be stopped, killed and started again at a time: with more than that, a cluster of three has no
/// majority, and a node waits at its start for those that ended after it.
#[derive(Debug)]
pub struct Cluster {
    /// The first one last, because it owns what the others use and must go after them.
    nodes: Vec<PrivateNode>,
}

impl Cluster {
    /// Starts `size` nodes, one after the other, as one cluster; takes some seconds for each.
    ///
    /// # Errors
    ///
    /// As [`PrivateNode::start_with`].
    pub fn start(size: usize) -> Result<Self, PrivateNodeError> {
        Self::start_with(size, &PrivateNodeOptions::default())
    }

    /// The same with options, of which the directory and the port must be left out.
    ///
    /// # Errors
    ///
    /// As [`PrivateNode::start_with`].
    pub fn start_with(size: usize, options: &PrivateNodeOptions) -> Result<Self, PrivateNodeError> {
        let first = PrivateNode::start_with(options)?;
        let options = PrivateNodeOptions { peer: Some(first.peer()?), ..options.clone() };
        let mut nodes = Vec::with_capacity(size);
        for _ in 1..size {
            nodes.push(PrivateNode::start_with(&options)?);
        }
        nodes.push(first);
        Ok(Self { nodes })
    }

    /// The nodes, in the order of the URL's addresses.
    pub fn nodes(&self) -> &[PrivateNode] {
        &self.nodes
    }

    /// The URL of the default virtual host, with the addresses of all nodes, for the user `guest`.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("amqp://guest:guest@{}/%2f", addresses.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_form_one_cluster_and_go_together() {
        let cluster = Cluster::start(3).expect("three nodes");
        let ports: Vec<_> = cluster.nodes().iter().map(PrivateNode::port).collect();
        for node in cluster.nodes() {
            assert_eq!(node.evaluate("length(rabbit_nodes:all_running()).").expect("an answer"), "3");
        }
        for port in &ports {
            assert!(cluster.url().contains(&format!("127.0.0.1:{port}")), "{}", cluster.url());
        }
        let [killed, other, _] = cluster.nodes() else { panic!("three nodes") };
        killed.kill().expect("killed");
        killed.restart().expect("it comes back");
        assert_eq!(other.evaluate("length(rabbit_nodes:all_running()).").expect("an answer"), "3");
        drop(cluster);
        for port in ports {
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        }
    }
}
