"""Pictures of the documents, drawn from results of the workflow."""
