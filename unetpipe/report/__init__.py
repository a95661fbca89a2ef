"""What people read: plan, status, catalogue, and pages with pictures and charts."""
