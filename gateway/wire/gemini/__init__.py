"""Google's Gemini API as a caller's protocol: https://ai.google.dev/api/generate-content"""
