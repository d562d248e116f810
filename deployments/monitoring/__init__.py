"""What operators see: a Grafana dashboard, alert rules and a configuration for Prometheus."""
