"""What people read: plan, status, catalogue and pages."""
