"""Against real servers, peers, clients and public test data; every module here is marked `real`."""
