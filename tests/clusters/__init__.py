"""What runs on three nats-servers that lose their leaders, and on servers that go silent."""
