// OpenAI's own Node client, given a base URL and models: does each thing once and prints one JSON object of results.
//     node openai_node.cjs BASE_URL '{"openai": "openai/gpt-5.2", …}'
'use strict'
const OpenAI = require('openai')

const [baseURL, given] = process.argv.slice(2)
const models = JSON.parse(given)
const client = new OpenAI({ baseURL, apiKey: 'not-needed', maxRetries: 0 })
const messages = [{ role: 'user', content: 'hi' }]
const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const tools = [{ type: 'function', function: { name: 'get_weather', parameters } }]

async function whole(model) {
  const answer = await client.chat.completions.create({ model, messages })
  return { text: answer.choices[0].message.content, total: answer.usage.total_tokens, model: answer.model }
}

async function streamed(model) {
  const stream = await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  })
  const said = { text: '', total: 0, ids: new Set(), reason: null }
  for await (const chunk of stream) {
    said.ids.add(chunk.id)
    said.text += chunk.choices[0]?.delta.content ?? ''
    said.reason ??= chunk.choices[0]?.finish_reason ?? null
    said.total ||= chunk.usage?.total_tokens ?? 0
  }
  return { ...said, ids: said.ids.size }
}

async function called(model) {
  const answer = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion()
  const [choice] = answer.choices
  return { names: choice.message.tool_calls.map((call) => call.function.name), reason: choice.finish_reason }
}

async function responded(model) {
  const stream = client.responses.stream({ model, input: 'hi' })
  let heard = ''
  stream.on('response.output_text.delta', (event) => { heard += event.delta })
  const { output_text: text, status, usage } = await stream.finalResponse()
  return { text, heard, status, total: usage.total_tokens }
}

async function failed(body) {
  try {
    const answer = await client.chat.completions.create(body)
    if (body.stream) for await (const _ of answer);
    return null
  } catch (error) {
    return {
      kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null,
      retry: error.headers?.get('retry-after') ?? null, api: error instanceof OpenAI.APIError,
    }
  }
}

async function each(names, ask) {
  const results = {}
  for (const name of names) results[name] = await ask(models[name])
  return results
}

async function main() {
  const names = Object.keys(models)
  const listed = []
  for await (const model of client.models.list()) listed.push(model.id)
  return {
    whole: await each(names, whole),
    streamed: await each(names, streamed),
    responded: await each(names, responded),
    vector: (await client.embeddings.create({ model: 'vllm/vectors', input: 'a cat' })).data[0].embedding,
    called: { tools: await called('vllm/tools') },
    failed: {
      missing: await failed({ model: 'nobody/x', messages }),
      wrong: await failed({ model: 'demo/echo', messages: [] }),
      busy: await failed({ model: 'lmstudio/busy', messages }),
      cut: await failed({ model: 'openai-compatible/cut', messages, stream: true }),
    },
    listed,
  }
}

main().then((results) => console.log(JSON.stringify(results)))
