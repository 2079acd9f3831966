"""What the service offers over HTTP, beside the wire: metrics and the page."""
