"""AuditService, and what the audit keeps of a change."""
