"""It never stands still in silence: whatever cannot succeed is put aside, and the rest flows."""
