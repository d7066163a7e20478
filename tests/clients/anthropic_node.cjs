// Anthropic's own Node client, given a URL and models: does each thing once and prints one JSON object of results.
//     node anthropic_node.cjs URL '{"chat": {"openai": "openai/gpt-5.2", …}, "tools": …, "busy": …}'
'use strict'
const { Anthropic } = require('@anthropic-ai/sdk')

const [baseURL, given] = process.argv.slice(2)
const models = JSON.parse(given)
const client = new Anthropic({ baseURL, apiKey: 'not-needed', maxRetries: 0 })
const question = { role: 'user', content: 'How is the weather?' }
const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
const tools = [{ name: 'get_weather', description: 'of a place', input_schema: schema }]

const said = (message) => ({
  text: message.content.filter((block) => block.type === 'text').map((block) => block.text).join(''),
  reason: message.stop_reason,
  input: message.usage.input_tokens,
  output: message.usage.output_tokens,
})

const create = (model, more) => client.messages.create({ model, max_tokens: 64, messages: [question], ...more })
const stream = (model, more) => client.messages.stream({ model, max_tokens: 64, messages: [question], ...more })

async function streamed(model) {
  const events = stream(model)
  let text = ''
  events.on('text', (piece) => { text += piece })
  return { ...said(await events.finalMessage()), heard: text }
}

async function called(model) {
  const asked = await stream(model, { tools }).finalMessage()
  const call = asked.content.find((block) => block.type === 'tool_use')
  const result = { type: 'tool_result', tool_use_id: call.id, content: `22 °C in ${call.input.city}` }
  const turns = [question, { role: 'assistant', content: asked.content }, { role: 'user', content: [result] }]
  return { given: call.input, ...said(await create(model, { tools, messages: turns })) }
}

async function failed(model) {
  try {
    return said(await create(model))
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, type: error.error?.error?.type }
  }
}

async function each(names, ask) {
  const results = {}
  for (const name of names) results[name] = await ask(models.chat[name])
  return results
}

async function main() {
  const names = Object.keys(models.chat)
  const counted = await client.messages.countTokens({ model: models.tools, messages: [question] })
  return {
    whole: await each(names, async (model) => said(await create(model))),
    streamed: await each(names, streamed),
    called: await called(models.tools),
    failed: { busy: await failed(models.busy), missing: await failed('nobody/x') },
    counted: counted.input_tokens,
  }
}

main().then((results) => console.log(JSON.stringify(results)))
